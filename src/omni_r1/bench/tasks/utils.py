"""What `omni_bench.yaml` calls: a document is a row of Omni-Bench, read and graded as the bench does."""

from pathlib import Path
from typing import Any

from PIL import Image as Picture

from omni_r1.bench.profiles import judged_by
from omni_r1.bench.suites import OMNI_BENCH, Files, Item, placed
from omni_r1.bench.suites.omni_bench import item_of
from omni_r1.bench.suites.rows import Row, columns_of, told_by
from omni_r1.errors import InputError
from omni_r1.generate.questions import open_source
from omni_r1.trajectory import extract_answer

FILE = Path("omni-bench")
FILES = Files(str(FILE), Path("."), [FILE])
TASKS = ("natural", "structured", "diagrammatic", "vision-operational")


def item(doc: dict[str, Any]) -> tuple[Item, list[Picture.Image]]:
    """The question and its pictures. One that cannot be asked has an error, no pictures, and the task it counts for."""
    try:
        asked = item_of(Row(dict(doc), FILES, FILE))
        return asked, [open_source(source, {"file": FILE}, asked.images_field) for source in asked.images]
    except InputError as error:
        columns = columns_of(doc)
        _, task, gold = told_by(columns)
        return placed(Item("", task=task, gold=gold, error=error, columns=columns), OMNI_BENCH), []


def pictures(doc: dict[str, Any]) -> list[Picture.Image]:
    return item(doc)[1]


def question(doc: dict[str, Any]) -> str:
    return item(doc)[0].text


def answer_in(said: str) -> str | None:
    """The final answer in a trace. A single line without one is an answer alone."""
    if (found := extract_answer(said)) is not None:
        return found
    alone = said.strip()
    return alone if alone and "\n" not in alone else None


def results(doc: dict[str, Any], said: list[str]) -> dict[str, float]:
    """A 1 or 0 for each metric that the document counts for: its Uni-Task is one of them where it is known."""
    asked, _ = item(doc)
    answer = None if asked.error else answer_in(said[0])
    verdict = judged_by(asked.profile, answer, asked)
    found = {"accuracy": float(verdict.correct), "failed": float(asked.error is not None)}
    found["no_answer"] = float(answer is None and asked.error is None)
    found["unparsed"] = float(answer is not None and not verdict.parsed)
    return found | ({asked.task: float(verdict.correct)} if asked.task in TASKS else {})
