"""A suite is data, prompt and grader: questions with their gold answers, and by which rules each is graded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image as Picture

from omni_r1.errors import InputError
from omni_r1.generate.questions import Question


@dataclass
class Item(Question):
    """A question of a benchmark. `source`: the data set it is from; `profile`: the rules it is graded by.

    `options`: the choices in their order, where there are; `kind` and `precision`: what MathVista says of an answer.
    `columns`: the row as it was read, without its pictures.
    """

    source: str | None = None
    profile: str = "strict"
    options: Sequence[str] | None = None
    kind: str | None = None
    precision: int | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    text_field: str = "question"
    images_field: str = "image"


@dataclass
class Suite:
    """Questions; where drawings can be judged, the judge: (drawn, gold) pictures to a verdict and its reason.

    `origin`: what was read, for the run's records: name, revision of the hub, and the sha256 of each file.
    """

    name: str
    questions: list[Item]
    judge: Callable[[Picture.Image, Picture.Image], tuple[bool, str]] | None = None
    origin: dict[str, Any] = field(default_factory=dict)


def swap_pictures(questions: Sequence[Item]) -> list[Item]:
    """Each question with the pictures of the next one of its task that has as many; its answer stays. A control, not a
    benchmark.

    Without such a partner, without pictures, or not to be read, a question stays as it is. Raises InputError where all
    do.
    """
    alike: dict[tuple[str | None, int], list[Item]] = {}
    for question in questions:
        if question.error is None and question.images:
            alike.setdefault((question.task, len(question.images)), []).append(question)
    swapped: dict[int, Item] = {}
    for group in alike.values():
        for question, donor in zip(group, [*group[1:], group[0]], strict=True):
            if donor is not question:
                swapped[id(question)] = replace(question, images=donor.images)
    if not swapped:
        raise InputError("no two questions of a task have as many pictures", field="swap_pictures")
    return [swapped.get(id(question), question) for question in questions]
