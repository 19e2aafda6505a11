"""Questions to train on, and the order they come in."""

import hashlib
from dataclasses import dataclass

import torch

from omni_r1.errors import InputError
from omni_r1.pesft.dataset import Rows
from omni_r1.trajectory import Image, TrajectoryError, extract_answer
from omni_r1.vocabulary import IGNORED, ParseError, Vocabulary


@dataclass(frozen=True)
class PromptRow:
    """A question: token ids of the prompt, BOS in front; its gold answer, its choices where it has some; and the row it
    is from."""

    ids: list[int]
    gold: str
    name: str
    options: list[str] | None


def prompt_of(rows: Rows, index: int, vocabulary: Vocabulary) -> PromptRow:
    """The prompt of a training row and the final answer of its response; how that got there is not looked at.

    Raises InputError naming the row where it asks nothing, or where its response has no final answer.
    """
    row = rows[index]
    ids = row["input_ids"].tolist()
    first = int((row["labels"] != IGNORED).nonzero()[0])
    try:
        trajectory = vocabulary.parse(ids, first)
        gold = extract_answer(trajectory.response_text)
    except (ParseError, TrajectoryError) as error:
        raise InputError(str(error), file=row["name"], field="response") from error
    if not any(isinstance(part, Image) or part.text.strip() for part in trajectory.prompt):
        raise InputError("asks nothing", file=row["name"], field="prompt")
    if not gold:
        raise InputError("its response has no final answer to compare with", file=row["name"], field="response")
    return PromptRow(ids[:first], gold, row["name"], row["options"])


class Draws:
    """An endless sequence of row indices: every pass over the rows in an order of its own, from `seed` and its number.

    `position`: how many were drawn. It is all the state there is, so a run that goes on draws what an untouched one
    would have, refills included.
    """

    def __init__(self, rows: int, seed: int, position: int = 0) -> None:
        self.rows, self.seed, self.position = rows, seed, position
        self._epoch, self._order = -1, list[int]()

    def take(self, count: int) -> list[tuple[int, int]]:
        """The next (number of the draw, index of the row)."""
        numbers = range(self.position, self.position + count)
        self.position += count
        return [(number, self._index(number)) for number in numbers]

    def _index(self, number: int) -> int:
        epoch, place = divmod(number, self.rows)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.rows, generator=generator).tolist()
        return self._order[place]


def seeds_of(draw: int, group_size: int, seed: int) -> list[int]:
    """The seeds of a group's responses: those of no other draw, and of no other run with another seed."""
    names = (f"{seed}:{draw}:{sample}".encode() for sample in range(group_size))
    return [int.from_bytes(hashlib.sha256(name).digest()[:7]) for name in names]
