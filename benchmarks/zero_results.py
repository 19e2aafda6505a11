"""What `runs/omni_r1_zero.sh` measured, as rows and as a table: `python benchmarks/zero_results.py WORK`.

Intervals are as in `ablations.py`. *Of annotated* is the mean, over seeds, of a setting's accuracy over that of the
same training on gold drawings from the same seed, with PeRPO or without.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from ablations import of_mean, percent, row_of, within
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
    accuracies = {row["name"]: dict(zip(row["seeds"], row["accuracies"], strict=True)) for row in rows}
    for row in rows:
        row["command"] = "runs/omni_r1_zero.sh"
        gold = accuracies.get("annotated-perpo" if row["name"].endswith("-perpo") else "annotated", {})
        shares = [of / gold[seed] for seed, of in accuracies[row["name"]].items() if gold.get(seed)]
        if shares and not row["name"].startswith(("annotated", "base")):  # the base has no seeds
            row["of_annotated"] = fmean(shares)
            row["of_annotated_interval"] = of_mean(shares) if len(shares) > 1 else None
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
        share = f"{percent(row.get('of_annotated'))} {within(row.get('of_annotated_interval'))}"
        written = f"{row['rows_written']:,.0f} of {row['rows_read']:,.0f}" if "rows_written" in row else ""
        shown.append(
            {
                "": TITLES[row["name"]],
                "seeds": len(row["seeds"]),
                "accuracy": f"{percent(row['accuracy'])} {within(row['interval'])}",
                "of each seed": ", ".join(f"{100 * accuracy:.1f}" for accuracy in row["accuracies"]),
                "of annotated": share.strip(),
                "steps right": percent(row["step_accuracy"] if row["valid_images"] is not None else None),  # it draws
                "whole images": percent(row["valid_images"]),
                "rows written": written,
            }
        )
    return markdown(shown)


if __name__ == "__main__":
    publish(__doc__ or "", "zero", rows_of, table)
