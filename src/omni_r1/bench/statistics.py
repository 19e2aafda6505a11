"""Figures of a run: every share with its interval, over all questions, by task, by source, and by what was drawn.

A function of the records alone: in any order they give the same figures, whenever and in how many parts they were made.
A question may have several samples (`sample` 0, 1, ...); its accuracy is the mean over them, and an interval knows that
they hang together.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from omni_r1.bench.intervals import Bounds, clustered
from omni_r1.trajectory import counted

Record = dict[str, Any]
Groups = dict[str, list[Record]]

OVERALL = "overall"
BREAKDOWNS = ("by_source", "by_images", "by_steps")  # figures of a summary that are figures of parts of the run
MISSING = ("failed", "no_answer", "unparsed", "ungraded")  # what is neither right nor wrong, and counts as not right


def outcome(record: Record) -> str:
    """What became of a question by its verdict: `right` or `wrong`; or `failed` (an error), `no_answer`, `unparsed`
    (one that the rules cannot read), `ungraded`."""
    if record.get("status") == "error":
        return "failed"
    if record.get("correct"):
        return "right"
    said_nothing = record.get("no_answer")
    if said_nothing or (said_nothing is None and not record.get("answer")):
        return "no_answer"
    if record.get("correct") is None:
        return "ungraded"
    return "unparsed" if record.get("parsed") is False else "wrong"


def verdicts_missing(records: Iterable[Record]) -> str | None:
    """How many answers have no verdict, in words, and None where all have: only a judge may fail to give one."""
    answers = [record for record in records if record.get("status") != "error"]
    missing = sum(record.get("correct") is None for record in answers)
    told = f"{missing} of {counted(len(answers), 'verdict')} of the judge {'is' if missing == 1 else 'are'} missing"
    return f"{told}; the same command asks for them again" if missing else None


def by_question(records: Iterable[Record]) -> Groups:
    """The samples of each question, by its id."""
    questions: Groups = {}
    for record in records:
        questions.setdefault(record["id"], []).append(record)
    return questions


def grouped(records: Iterable[Record], key: Callable[[Record], str | None]) -> Groups:
    """Records under their key, those without one left out."""
    groups: Groups = {}
    for record in records:
        if name := key(record):
            groups.setdefault(name, []).append(record)
    return groups


def by_task(records: Sequence[Record]) -> Groups:
    """Records under `overall` and under their tasks, in order of first appearance."""
    return {OVERALL: list(records)} | grouped(records, lambda record: record.get("task"))


def weighted_average(figures: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """Mean of the parts' figures, each weighted by its number of questions (paper, Table 2)."""
    return math.fsum(figure * counts[name] for name, figure in figures.items()) / sum(counts[name] for name in figures)


def images_of(record: Record) -> list[dict[str, Any]]:
    return [segment for segment in record["segments"] if "image" in segment]


def images_whole(record: Record) -> list[bool]:
    """For each image the model began, whether it came out whole."""
    return record.get("images_whole") or []


def steps_right(record: Record) -> list[bool]:
    """A verdict for each step that was drawn or should have been: a missing drawing is wrong. Not judged: none."""
    if not record.get("judged"):
        return []
    drawn = [bool(image.get("step") and image["step"]["correct"]) for image in images_of(record)]
    return drawn + [False] * (len(record["gold_images"]) - len(drawn))


def step_class(record: Record) -> str | None:
    """What a record's drawings are worth, by the judge, or else by their being whole; None of a failed record."""
    if record.get("status") == "error":
        return None
    if record.get("judged"):
        return "steps right" if all(steps_right(record)) else "a step wrong"
    whole = images_whole(record)
    return ("images whole" if all(whole) else "an image broken") if whole else "nothing drawn"


def drawn_class(record: Record) -> str | None:
    return None if record.get("status") == "error" else str(len(images_of(record)))


class Blind:
    """What answers without looking would get, a share by question id.

    `constant`: always the commonest gold answer of the question's task, or of what it has for the `key`. `chance`: one
    of the question's options (`options` of its record), or without them one of its task's gold answers, whichever. A
    question that failed, as no model can get it right, or has no gold answer is right for neither, and its gold answer
    is none to choose.
    """

    def __init__(self, records: Iterable[Record], key: str = "task") -> None:
        first: list[Record] = []
        for samples in by_question(records).values():
            failed = all(record.get("status") == "error" for record in samples)
            first.append(samples[0] | ({"gold": None} if failed or not (samples[0].get("gold") or "").strip() else {}))
        golds: dict[str | None, Counter[str]] = {}
        for record in first:
            if record["gold"] is not None:
                golds.setdefault(record.get(key), Counter())[record["gold"]] += 1
        commonest = {task: min(count, key=lambda gold: (-count[gold], gold)) for task, count in golds.items()}
        self.constant: dict[str, float] = {}
        self.chance: dict[str, float] = {}
        for record in first:
            task, gold = record.get(key), record["gold"]
            known = gold is not None
            self.constant[record["id"]] = float(known and gold == commonest[task])
            self.chance[record["id"]] = 1 / (len(record.get("options") or ()) or len(golds[task])) if known else 0.0


def accuracy(records: Iterable[Record]) -> tuple[float, Bounds]:
    """Mean over questions of the mean over their samples, with its interval."""
    questions = by_question(records).values()
    shares = [fmean(bool(record.get("correct")) for record in samples) for samples in questions]
    found = clustered(shares, [1] * len(shares), sum(map(len, questions)))
    assert found is not None  # a group has records
    return found


def share_within(
    records: Iterable[Record], verdicts: Callable[[Record], Sequence[bool]]
) -> tuple[float, Bounds] | None:
    """Share of verdicts, of which a record has any number; those of one question hang together."""
    lists = [
        [verdict for record in samples for verdict in verdicts(record)] for samples in by_question(records).values()
    ]
    return clustered([sum(listed) for listed in lists], [len(listed) for listed in lists])


def control_right(records: Iterable[Record]) -> tuple[float, Bounds] | None:
    """The control answers a question once, whatever the number of its samples."""
    return share_within(
        (samples[0] for samples in by_question(records).values()),
        lambda record: [bool((record.get("control") or {}).get("correct"))],
    )


def figures(groups: Groups, blind: Blind) -> dict[str, dict[str, Any]]:
    """Figure -> group -> its value; what no group has is left out."""
    found: dict[str, dict[str, Any]] = {}

    def put(key: str, value: Callable[[list[Record]], Any]) -> None:
        found[key] = {name: value(rows) for name, rows in groups.items()}

    def put_shares(key: str, within: str, share: Callable[[list[Record]], tuple[float, Bounds] | None]) -> None:
        both = {name: share(rows) for name, rows in groups.items()}
        found[key] = {name: value and value[0] for name, value in both.items()}
        found[within] = {name: value and value[1] for name, value in both.items()}

    put("count", lambda rows: len(by_question(rows)))
    put("samples", len)
    put_shares("accuracy", "interval", accuracy)
    if any(record.get("control") for rows in groups.values() for record in rows):
        put_shares("control_accuracy", "control_interval", control_right)
    put("constant", lambda rows: math.fsum(map(blind.constant.__getitem__, ids := by_question(rows))) / len(ids))
    put("chance", lambda rows: math.fsum(map(blind.chance.__getitem__, ids := by_question(rows))) / len(ids))
    for name in MISSING:
        put(name, lambda rows, name=name: sum(outcome(record) == name for record in rows))  # type: ignore[misc]
    put_shares("step_accuracy", "step_interval", lambda rows: share_within(rows, steps_right))
    put_shares("valid_images", "valid_interval", lambda rows: share_within(rows, images_whole))
    lengths: dict[str, Callable[[Record], int]] = {
        "images": lambda record: len(images_of(record)),
        "words": lambda record: sum(len(part["text"].split()) for part in record["segments"] if "text" in part),
        "tokens": lambda record: record.get("tokens") or 0,
    }
    for name, length in lengths.items():  # of answers: a failed row is none
        listed = {
            group: [length(row) for row in rows if row.get("status") != "error"] for group, rows in groups.items()
        }
        found[name] = {group: fmean(values) if values else None for group, values in listed.items()}
        found[f"{name}_median"] = {group: median(values) if values else None for group, values in listed.items()}
    return found


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """The run's figures, `{"overall": ..., task: ...}` each, and those of its BREAKDOWNS (docs/omni-bench.md).

    Whatever is not right counts as such: an answer that is wrong, missing, not to be read, not graded, or a failed row.
    """
    blind = Blind(records)
    summary: dict[str, Any] = figures(by_task(records), blind)
    keys = (lambda record: record.get("source"), drawn_class, step_class)
    blinds = (Blind(records, "source"), blind, blind)  # a source is a benchmark of its own
    for name, key, found in zip(BREAKDOWNS, keys, blinds, strict=True):
        groups = grouped(records, key)
        order = sorted(groups, key=lambda group: (len(group), group)) if name == "by_images" else groups
        if groups:
            summary[name] = figures({group: groups[group] for group in order}, found)
    return summary
