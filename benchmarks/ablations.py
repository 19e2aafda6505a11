"""What `runs/ablations.sh` measured, as rows and as a table: `python benchmarks/ablations.py WORK`.

An interval over seeds is Student's: mean and 95 % of the runs' accuracies. With one seed it is Wilson's, of the
questions. A gain is a run's accuracy less that of the checkpoint it began with.
"""

import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tables import markdown, publish

from omni_r1.bench.intervals import student

STARTS = {"pesft": None, "pesft-text": None, "without-drawing": "pesft-text"}  # of all others it is pesft
ORDER = ["pesft", "default", "paper", "original", "without-perception", "pesft-text", "without-drawing"]
TITLES = {
    "pesft": "PeSFT, stopped early",
    "default": "+ PeRPO, `default`",
    "paper": "+ PeRPO, `paper`",
    "original": "+ PeRPO, `original`",
    "without-perception": "+ PeRPO, no perception reward",
    "pesft-text": "PeSFT without drawings, stopped early",
    "without-drawing": "+ PeRPO without drawing",
}


def of_mean(values: list[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more values."""
    half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def row_of(work: Path, name: str) -> dict[str, Any] | None:
    """The figures of a setting over its seeds; None where it has not been run."""
    folders = sorted((path.parent for path in (work / name).glob("*/bench/summary.json")), key=lambda path: path.parent)
    if not folders:
        return None
    found = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    accuracies = [summary["accuracy"]["overall"] for summary in found]

    def mean(key: str) -> float | None:
        values = [summary[key]["overall"] for summary in found if summary[key]["overall"] is not None]
        return fmean(values) if values else None

    single = tuple(found[0]["interval"]["overall"])
    tasks = [task for task in found[0]["accuracy"] if task != "overall"]
    return {
        "name": name,
        "seeds": [int(folder.parent.name) for folder in folders],
        "accuracy": fmean(accuracies),
        "accuracies": accuracies,
        "interval": of_mean(accuracies) if len(accuracies) > 1 else single,
        "tasks": {task: fmean(summary["accuracy"][task] for summary in found) for task in tasks},
        "step_accuracy": mean("step_accuracy"),
        "valid_images": mean("valid_images"),
        "command": "runs/ablations.sh",
        "commit": "; ".join(dict.fromkeys(str(run["commit"]) for run in runs)),
        "machine": "; ".join(dict.fromkeys(run["machine"] for run in runs)),
    }


def rows_of(work: Path) -> list[dict[str, Any]]:
    rows = [row for name in ORDER if (row := row_of(work, name))]
    by_name = {row["name"]: row for row in rows}
    for row in rows:
        start = by_name.get(STARTS.get(row["name"], "pesft") or "")
        if start and len(row["accuracies"]) > 1:
            gains = [accuracy - start["accuracy"] for accuracy in row["accuracies"]]
            row["gain"], row["gain_interval"] = fmean(gains), of_mean(gains)
    return rows


def percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f} %"


def within(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def table(rows: list[dict[str, Any]]) -> str:
    return markdown(
        [
            {
                "": TITLES[row["name"]],
                "seeds": len(row["seeds"]),
                "accuracy": f"{percent(row['accuracy'])} {within(row['interval'])}",
                **{task: f"{100 * share:.0f}" for task, share in row["tasks"].items()},
                "gain, points": f"{100 * row['gain']:+.1f} {within(row['gain_interval'])}" if "gain" in row else "",
                "steps right": percent(row["step_accuracy"] if row["valid_images"] is not None else None),  # it draws
                "whole images": percent(row["valid_images"]),
            }
            for row in rows
        ]
    )


if __name__ == "__main__":
    publish(__doc__ or "", "ablations", rows_of, table)
