"""What `runs/omni_r1_zero.sh` measured, as rows and as a table: `python benchmarks/zero_results.py WORK`.

Intervals are as in `ablations.py`. *Of annotated* is a setting's accuracy over that of the same training on gold
drawings, with PeRPO or without.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from ablations import percent, row_of
from tables import markdown, publish

TITLES = {
    "base": "base model",
    "annotated": "PeSFT on gold drawings",
    "annotated-perpo": "... and PeRPO",
    "text": "PeSFT without drawings",
    "text-perpo": "... and PeRPO",
    "unfiltered": "Zero, first round without its filter: PeSFT",
    "zero-1": "Zero, first round: PeSFT",
    "zero-2": "Zero, second round: PeSFT",
    "zero-2-perpo": "... and PeRPO",
}


def rows_of(work: Path) -> list[dict[str, Any]]:
    rows = [row for name in TITLES if (row := row_of(work, name))]
    accuracies = {row["name"]: row["accuracy"] for row in rows}
    for row in rows:
        row["command"] = "runs/omni_r1_zero.sh"
        gold = accuracies.get("annotated-perpo" if row["name"].endswith("-perpo") else "annotated")
        if gold:
            row["of_annotated"] = row["accuracy"] / gold
        manifests = [
            json.loads(file.read_text()) for file in sorted((work / row["name"]).glob("**/drawn/manifest.json"))
        ]
        if manifests:
            row["rows_read"] = fmean(each["counts"]["read"] for each in manifests)
            row["rows_written"] = fmean(each["counts"]["written"] for each in manifests)
            row["rejected"] = [each["counts"]["rejected"] for each in manifests]
            row["validated"] = [each["validated"] for each in manifests]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    shown = []
    for row in rows:
        low, high = (100 * bound for bound in row["interval"])
        written = f"{row['rows_written']:,.0f} of {row['rows_read']:,.0f}" if "rows_written" in row else ""
        shown.append(
            {
                "": TITLES[row["name"]],
                "seeds": len(row["seeds"]),
                "accuracy": f"{percent(row['accuracy'])} [{low:.1f}, {high:.1f}]",
                "of annotated": percent(row.get("of_annotated")),
                "steps right": percent(row["step_accuracy"]),
                "whole images": percent(row["valid_images"]),
                "rows written": written,
            }
        )
    return markdown(shown)


if __name__ == "__main__":
    publish(__doc__ or "", "zero", rows_of, table)
