"""Figures of a run: every share with its interval, overall and per task."""

import math
from collections.abc import Iterable, Sequence

OVERALL = "overall"


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927). An empty sample gives (0, 1)."""
    if count == 0:
        return 0.0, 1.0
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def by_task(records: Sequence[dict]) -> dict[str, list[dict]]:
    """Records under `overall` and under their tasks, in order of first appearance."""
    groups: dict[str, list[dict]] = {OVERALL: list(records)}
    for record in records:
        if record["task"]:
            groups.setdefault(record["task"], []).append(record)
    return groups


def share(hits: Iterable[bool]) -> float | None:
    """Share of hits, None of nothing."""
    listed = list(hits)
    return sum(listed) / len(listed) if listed else None


def steps_right(records: Sequence[dict]) -> list[bool]:
    """One verdict for each step that was drawn or should have been: a missing drawing is a wrong step.

    Records whose drawings nobody judged have no steps.
    """
    verdicts = []
    for record in records:
        if not record["judged"]:
            continue
        drawn = [bool(part["step"] and part["step"]["correct"]) for part in record["segments"] if "image" in part]
        verdicts += drawn + [False] * (len(record["gold_images"]) - len(drawn))
    return verdicts


def images_whole(records: Sequence[dict]) -> list[bool]:
    """One entry for each image the model began: whether it came out whole."""
    return [whole for record in records for whole in record["images_whole"]]


def summarise(records: Sequence[dict], chance: dict[str, float]) -> dict:
    """The run's figures, each `{"overall": ..., task: ...}`. A failed row counts as a wrong answer.

    `chance` is the accuracy per task of the best constant answer.
    """
    groups = by_task(records)
    summary: dict = {
        "accuracy": {name: share(bool(r["correct"]) for r in rows) for name, rows in groups.items()},
        "interval": {name: wilson(sum(bool(r["correct"]) for r in rows), len(rows)) for name, rows in groups.items()},
        "step_accuracy": {name: share(steps_right(rows)) for name, rows in groups.items()},
        "valid_images": {name: share(images_whole(rows)) for name, rows in groups.items()},
        "count": {name: len(rows) for name, rows in groups.items()},
        "failed": {name: sum(r["status"] == "error" for r in rows) for name, rows in groups.items()},
    }
    if chance:
        counts = {name: len(groups[name]) for name in chance}
        weighted = sum(chance[name] * count for name, count in counts.items())
        summary["chance"] = {OVERALL: weighted / sum(counts.values())} | chance
    if any(r["control"] for r in records):
        right = {name: [bool(r["control"] and r["control"]["correct"]) for r in rows] for name, rows in groups.items()}
        summary["control_accuracy"] = {name: share(hits) for name, hits in right.items()}
        summary["control_interval"] = {name: wilson(sum(hits), len(hits)) for name, hits in right.items()}
    return summary
