"""Runs on the same questions beside each other: is the difference real?

Every run is compared with the first, question by question. A difference is shown where its test, adjusted for the
number of runs (over all questions) or of runs and tasks, stays below 5 % and its interval excludes zero.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from omni_r1.bench.intervals import LEVEL, Difference, holm, paired
from omni_r1.bench.statistics import OVERALL, Blind, Record, by_question, by_task, figures, verdicts_missing
from omni_r1.errors import InputError
from omni_r1.files import confined, open_image, read_bytes
from omni_r1.run_record import HOW, JUDGE

SAME = ("question", "options", "gold", "task", "source", "profile")  # what records of one question must agree in


@dataclass
class Run:
    """A finished run: its name, its records, and what its run.json, summary.json and suite.json say of it."""

    name: str
    records: list[Record]
    file: object  # where the records are from, for errors
    suite: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)  # the sha256 of each file of its data, where that is known
    folder: Path | None = None  # where its pictures are

    @property
    def grader(self) -> str:
        """Whose verdict counts. A judge is a model at an address: another server's may be another of that name."""
        if self.options.get("primary") != "judge":
            return "the rules"
        return f"the judge {self.options.get('judge_model')} at {str(self.options.get('judge_url')).rstrip('/')}"


@dataclass(frozen=True)
class Against:
    """A run against the first, on all questions or those of a task."""

    difference: Difference
    p: float  # adjusted for how many such tests there are
    better: int  # questions it does better in, and worse
    worse: int

    @property
    def shown(self) -> bool:
        return self.p < LEVEL and self.difference.excludes_zero


@dataclass
class Comparison:
    """Figures of each run, by name; and each run but the first against it, by its name and `overall` or task."""

    suite: str | None
    runs: list[Run]
    figures: dict[str, dict[str, dict[str, Any]]]
    against: dict[str, dict[str, Against]]
    differing: list[str]  # ids of the questions that not all runs have equally right

    def as_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "runs": [{"name": run.name, "options": run.options} for run in self.runs],
            "options": changed_options(self.runs),
            "figures": self.figures,
            "against": {
                name: {part: dataclasses.asdict(found) | {"shown": found.shown} for part, found in parts.items()}
                for name, parts in self.against.items()
            },
            "differing": self.differing,
        }


def changed_options(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Options in which the runs differ, each with its value in every run; without those that no figure depends on."""
    judged = any(run.options.get("primary") == "judge" for run in runs)
    left_out = HOW - JUDGE if judged else HOW
    names = dict.fromkeys(name for run in runs for name in run.options if name not in left_out)
    values = {name: [run.options.get(name) for run in runs] for name in names}
    return {name: listed for name, listed in values.items() if any(value != listed[0] for value in listed)}


def shares(records: Sequence[Record]) -> dict[str, Fraction]:
    """Question -> share of its samples that are right."""
    return {
        name: Fraction(sum(bool(record.get("correct")) for record in samples), len(samples))
        for name, samples in by_question(records).items()
    }


def same_questions(first: Run, other: Run) -> None:
    """Raises InputError naming the first question or field in which two runs were not asked or graded the same.

    Of pictures the run folders have copies: data may name pictures that are files of their own.
    """
    pictures = bool(first.options.get("swap_pictures")) == bool(other.options.get("swap_pictures"))
    asked, also = by_question(first.records), by_question(other.records)
    for name in (*asked, *also):
        if name not in also or name not in asked:
            here, lacks = (first, other) if name in asked else (other, first)
            count = len(asked.keys() ^ also.keys())
            raise InputError(
                f"{count} questions are not in both runs: {name[:200]!r} is in {here.name}, not in {lacks.name}",
                file=other.file,
                field="id",
            )
        for key in SAME:
            values = [samples[name][0].get(key) for samples in (asked, also)]
            if values[0] != values[1]:
                told = " and ".join(f"{str(value)[:80]!r}" for value in values)
                reason = f"of {name[:200]!r} is not the same in {first.name} and {other.name}: {told}"
                raise InputError(reason, file=other.file, field=key)
        if pictures and other_pictures(first, asked[name], other, also[name]):
            reason = f"of {name[:200]!r} are not the same in {first.name} and {other.name}"
            raise InputError(reason, file=other.file, field="question_images")
    if first.read and other.read and sorted(first.read.values()) != sorted(other.read.values()):
        names = ", ".join([*other.read][:3])
        raise InputError(f"of {other.name} is not what {first.name} has read: {names}", file=other.file, field="data")
    if first.grader != other.grader:
        reason = f"{other.name} is graded by {other.grader}, {first.name} by {first.grader}"
        raise InputError(reason, file=other.file, field="primary")


def other_pictures(first: Run, asked: Sequence[Record], other: Run, also: Sequence[Record]) -> bool:
    """Whether a question was asked with other pictures. Not known, and not said, where it failed or some are lost."""
    if first.folder is None or other.folder is None or first.folder == other.folder:
        return False
    records = [next((row for row in rows if row.get("status") != "error"), None) for rows in (asked, also)]
    here, there = (row.get("question_images") or [] if row else None for row in records)
    if here is None or there is None:
        return False
    if len(here) != len(there):
        return True
    return any(not same_picture((first.folder, one), (other.folder, two)) for one, two in zip(here, there, strict=True))


def same_picture(*places: tuple[Path, str]) -> bool:
    """By the files' bytes, and where these differ by the pixels: another release of a library packs them otherwise."""
    try:
        files = [confined(folder, name) for folder, name in places]
        one, other = (read_bytes(file) for file in files)
        if one == other:
            return True
        drawn = [open_image(content).convert("RGB") for content in (one, other)]
    except (InputError, OSError):  # the page tells of a picture that cannot be shown
        return True
    return drawn[0].size == drawn[1].size and drawn[0].tobytes() == drawn[1].tobytes()


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare each run with the first. Raises InputError where they were not asked the same, or are not graded."""
    first, *others = runs
    for run in runs:
        if not run.records:
            raise InputError("no records", file=run.file)
        if not all(record.get("id") for record in run.records):
            raise InputError("is missing in a record", file=run.file, field="id")
        keys = [(record["id"], record.get("sample", 0)) for record in run.records]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{twice[0][:200]!r} has two records of sample {twice[1]}", file=run.file, field="id")
        if run.options.get("primary") == "judge" and (missing := verdicts_missing(run.records)):
            raise InputError(missing, file=run.file, field="primary")
        same_questions(first, run)
    blind = Blind(first.records)
    parts = {name: list(by_question(rows)) for name, rows in by_task(first.records).items()}
    right = {run.name: shares(run.records) for run in runs}
    base = right[first.name]
    against: dict[str, dict[str, Against]] = {}
    for run in others:
        mine = right[run.name]
        against[run.name] = {}
        for part, asked in parts.items():
            found = paired([mine[name] for name in asked], [base[name] for name in asked])
            better, worse = (sum(sign * (mine[name] - base[name]) > 0 for name in asked) for sign in (1, -1))
            assert found.p is not None  # it is paired
            against[run.name][part] = Against(found, found.p, better, worse)
    _adjust(against, [(run.name, OVERALL) for run in others])
    _adjust(against, [(run.name, part) for run in others for part in parts if part != OVERALL])
    differing = [name for name in base if len({right[run.name][name] for run in runs}) > 1]
    found_figures = {run.name: figures(by_task(run.records), blind) for run in runs}
    return Comparison(first.suite, list(runs), found_figures, against, differing)


def _adjust(against: dict[str, dict[str, Against]], places: Sequence[tuple[str, str]]) -> None:
    values = [against[name][part].p for name, part in places]
    for (name, part), p in zip(places, holm(values), strict=True):
        against[name][part] = dataclasses.replace(against[name][part], p=p)
