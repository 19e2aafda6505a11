"""What becomes of an answer: the record with its grade, and the counts that figures leave out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image as Picture

from omni_r1.bench.judge import Opinion
from omni_r1.bench.profiles import Verdict, judged_by
from omni_r1.bench.statistics import by_task, outcome, share_within
from omni_r1.bench.suites import Item, Suite
from omni_r1.errors import InputError
from omni_r1.generate.backend import Completion
from omni_r1.generate.questions import open_source
from omni_r1.generate.run_folder import RunFolder, for_record, record_of
from omni_r1.generate.runner import KEPT_PIXELS, Answered
from omni_r1.model import Omni
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.words import unanswered


def record_answer(
    one: Answered, item: Item, omni: Omni, folder: RunFolder, suite: Suite, profile: str | None, several: bool
) -> dict[str, Any]:
    """The graded record of an answer, its pictures stored in the folder; `profile` overrides the question's own."""
    sample = one.task.samples[one.place]
    name = f"{item.row}-{sample + 1}" if several else f"{item.row}"

    def store(picture: Picture.Image, short: str) -> str:
        return folder.picture(picture, f"images/{name}-{short}")

    try:
        part = KEPT_PIXELS // max(1, len(item.gold_images))
        gold = [for_record(open_source(source, item.where, "steps"), part) for source in item.gold_images]
    except InputError as error:  # without them the drawings cannot be judged
        gold, one.completion = [], Completion([], 0, error=one.completion.error or str(error))
    record, drawn = record_of(item, sample, one.completion, one.pictures, omni, store, one.task.seeds[one.place])
    record["gold_images"] = [store(picture, f"gold_{number}") for number, picture in enumerate(gold, 1)]
    record |= {"source": item.source, "options": item.options, "profile": profile or item.profile, "judge": None}
    grade_into(record, judged_by(record["profile"], record["answer"], item))
    judge_drawings(record, drawn, gold, suite)
    return record


def grade_into(record: dict[str, Any], verdict: Verdict) -> None:
    """The rule's verdict, and until a judge is asked the record's own."""
    failed = record["status"] == "error"
    record["no_answer"] = None if failed else no_answer(record["answer"], record.get("gold"))
    record["parsed"] = None if failed else verdict.parsed
    record["partial"] = verdict.partial
    record["rule"] = {"correct": verdict.correct, "reason": verdict.reason}
    settle(record, record["rule"])


def settle(record: dict[str, Any], said: dict[str, Any]) -> None:
    """Make a verdict the record's own, with what follows from it."""
    record["correct"], record["reason"] = said["correct"], said["reason"]
    record["outcome"] = outcome(record)


def no_answer(answer: str | None, gold: str | None) -> bool:
    return answer is None or unanswered(canonical(answer), canonical(gold or ""))


def opinion_into(record: dict[str, Any], opinion: Opinion | None, model: str | None, primary: str) -> None:
    """The judge's verdict, None where nobody was asked; where it is the primary one, it is the record's own.

    A verdict that is missing then leaves `correct` None: it is counted, and never taken from the rule.
    """
    record["judge"] = opinion and asdict(opinion) | {"model": model}
    settle(record, record["judge"] if primary == "judge" and record["status"] != "error" else record["rule"])


def judge_drawings(
    record: dict[str, Any], drawn: Sequence[Picture.Image], gold: Sequence[Picture.Image], suite: Suite
) -> None:
    """Fill in the verdict of each drawn step, where the suite has a judge of drawings."""
    if suite.judge is None:
        return
    record["judged"] = True
    steps = [segment for segment in record["segments"] if "image" in segment]
    for place, (step, picture) in enumerate(zip(steps, drawn, strict=True)):
        correct, reason = suite.judge(picture, gold[place]) if place < len(gold) else (False, "one drawing too many")
        step["step"] = {"correct": correct, "reason": reason}


def also(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is told beside the figures: how many records each profile graded, and of sequences `prefix`, the mean share
    of steps that are right before the first wrong one, overall and by task."""
    groups, figures = by_task(records), dict[str, Any]()
    shares = {name: [r["partial"] for r in rows if r["partial"] is not None] for name, rows in groups.items()}
    if any(shares.values()):
        figures["prefix"] = {name: sum(found) / len(found) if found else None for name, found in shares.items()}
    profiles = Counter(record["profile"] for record in records)
    return figures | {"profiles": dict(sorted(profiles.items()))}


def agreement(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rule and judge side by side, on the answers that the judge was asked about and gave a verdict on.

    `missing`: verdicts it did not give.
    """
    groups = by_task([record for record in records if record["status"] != "error"])
    both = [r for r in groups["overall"] if judged_right(r)]
    pairs = Counter((r["rule"]["correct"], r["judge"]["correct"]) for r in both)
    expected = sum(
        sum(pairs[pair] for pair in pairs if pair[0] is side) * sum(pairs[pair] for pair in pairs if pair[1] is side)
        for side in (True, False)
    )
    same, total = pairs[True, True] + pairs[False, False], len(both)
    chance = expected / total**2 if total else 1.0
    found = {name: share_within(rows, judged_right) for name, rows in groups.items()}
    return {
        "missing": {name: sum(r["judge"]["correct"] is None for r in rows) for name, rows in groups.items()},
        "accuracy": {name: pair and pair[0] for name, pair in found.items()},
        "interval": {name: pair and pair[1] for name, pair in found.items()},
        "agreement": same / total if total else None,
        "kappa": (same / total - chance) / (1 - chance) if chance < 1 else None,  # Cohen 1960
        "only_rule": pairs[True, False],
        "only_judge": pairs[False, True],
    }


def judged_right(record: dict[str, Any]) -> list[bool]:
    """The judge's verdict; none where it did not say, or was not asked."""
    said = record["judge"]["correct"]
    return [] if said is None or not record["judge"]["asked"] else [said]


def original_line(record: dict[str, Any], item: Item, file: str, several: bool) -> dict[str, Any]:
    """A line as the original's evaluation writes it, `raw` with the columns of the data; a row that failed has no
    prediction, and says why. Where a question has `several` answers, each line says which one it is."""
    told = {"id": record["id"], "question": item.text, "task": record["task"]}
    line = {
        "index": record["row"] - 1, "source": file, "dataset": file, "local_index": record["row"] - 1,
        "raw": told | item.columns | {"_gt_answer": record["gold"]},
        "prediction": None if record["status"] == "error" else record["text"],
    }  # fmt: skip
    line |= {"sample": record["sample"], "seed": record["seed"]} if several else {}
    return line | ({"error": record["error"]} if record["error"] else {})
