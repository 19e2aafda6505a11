"""What `omni_bench.yaml` calls: a document is a row of Omni-Bench, read and graded as the bench does."""

from pathlib import Path
from typing import Any

from omni_r1.bench.profiles import judged_by
from omni_r1.bench.suites import Files, Item
from omni_r1.bench.suites.omni_bench import item_of
from omni_r1.bench.suites.rows import Row
from omni_r1.generate.questions import open_source
from omni_r1.trajectory import extract_answer

FILE = Path("omni-bench")
FILES = Files(str(FILE), Path("."), [FILE])
TASKS = ("natural", "structured", "diagrammatic", "vision-operational")


def item(doc: dict[str, Any]) -> Item:
    return item_of(Row(dict(doc), FILES, FILE))


def pictures(doc: dict[str, Any]) -> list[Any]:
    return [open_source(source, {"file": FILE}) for source in item(doc).images]


def question(doc: dict[str, Any]) -> str:
    return item(doc).text


def results(doc: dict[str, Any], said: list[str]) -> dict[str, float]:
    """A 1 or 0 for each metric that the document counts for: its Uni-Task is one of them where it is known."""
    asked = item(doc)
    answer = extract_answer(said[0])
    verdict = judged_by(asked.profile, answer, asked)
    found = {"accuracy": float(verdict.correct), "no_answer": float(answer is None)}
    found["unparsed"] = float(answer is not None and not verdict.parsed)
    return found | ({asked.task: float(verdict.correct)} if asked.task in TASKS else {})
