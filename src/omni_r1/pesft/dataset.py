"""Trajectories as training rows: token ids, and labels on what the model is to say and draw."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from omni_r1.data.sample import RowError, options_of
from omni_r1.errors import InputError, OmniError
from omni_r1.files import read_jsonl
from omni_r1.pesft.losses import IGNORED
from omni_r1.trajectory import Trajectory, TrajectoryError
from omni_r1.vocabulary import Vocabulary


class Rows(Protocol):
    """What is trained on. A row has `input_ids` (T,), `labels` (T,) with -100 where there is no target, `name`, and
    `options`, the choices of its question or None."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def length(self, index: int) -> int:
        """The number of tokens of a row, without reading it."""


class TrajectoryDataset(Dataset):
    """Rows of a JSONL file of trajectories (`Trajectory.to_json`, and `options`; other keys are ignored).

    The prompt is no target; with an empty prompt all but the first token is one. Raises InputError for a row that is
    malformed, has no response, does not render with this vocabulary or is longer than `max_length` tokens.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, max_length: int) -> None:
        self.rows: list[tuple[Tensor, int, str, list[str] | None]] = []
        for number, row in read_jsonl(path):
            if isinstance(row, InputError):
                raise row
            try:
                trajectory = Trajectory.from_json(row)
                options = list(options_of(row, "options")) or None
            except TrajectoryError as error:
                words = f"{error}; rows in other forms become trajectories by omni-r1 tokenize"
                raise InputError(words, file=path, row=number) from error
            except RowError as error:
                raise error.at(path, number) from error
            try:
                rendered = vocabulary.render(trajectory)
            except OmniError as error:
                raise InputError(str(error), file=path, row=number) from error
            if len(rendered.ids) > max_length:
                message = f"{len(rendered.ids)} tokens, more than max_length {max_length}"
                raise InputError(message, file=path, row=number)
            if len(rendered.ids) <= rendered.first_target:
                raise InputError("is empty, so there is nothing to learn", file=path, row=number, field="response")
            ids = torch.tensor(rendered.ids, dtype=torch.int32)
            self.rows.append((ids, rendered.first_target, f"{path.name}:{number}", options))
        if not self.rows:
            raise InputError("no rows to train on", file=path)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, prompt_length, name, options = self.rows[index]
        labels = ids.long()
        labels[:prompt_length] = IGNORED
        return {"input_ids": ids.long(), "labels": labels, "name": name, "options": options}

    def length(self, index: int) -> int:
        return len(self.rows[index][0])


BLANK = -1  # index of the row that holds nothing


class WithBlanks(Dataset):
    """The rows, and at index `BLANK` one of a single token without a target, which adds nothing to any sum."""

    def __init__(self, rows: Rows, pad: int) -> None:
        self.rows, self.pad = rows, pad

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == BLANK:
            return {"input_ids": torch.tensor([self.pad]), "labels": torch.tensor([IGNORED]), "name": None}
        return self.rows[index]


class StepSampler(Sampler[int]):
    """Rows in random order, dealt to the micro-batches of each optimiser step, over all processes, by their length.

    The rows of a step are a random mix; sorting over more than a step would make whole steps of one task. Within it,
    `even` deals the longest rows to different micro-batches, so that no process waits for another; otherwise like
    goes with like, so that little is padded. An epoch's last step is filled with blanks: no row is left out or comes
    twice, and however many processes share a step, it is of the same rows.
    """

    def __init__(self, rows: Rows, batch_size: int, batches: int, seed: int, even: bool) -> None:
        self.rows, self.batch_size, self.batches = rows, batch_size, batches
        self.seed, self.even, self.epoch = seed, even, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def step_size(self) -> int:
        return self.batch_size * self.batches

    def __len__(self) -> int:
        return -(-len(self.rows) // self.step_size) * self.step_size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        for start in range(0, len(order), self.step_size):
            step = sorted(order[start : start + self.step_size], key=self.rows.length)
            step = [BLANK] * (self.step_size - len(step)) + step
            yield from self.deal(step) if self.even else step

    def deal(self, step: list[int]) -> list[int]:
        """Sorted rows in the order of their micro-batches: out and back, each takes the next longest."""
        hands: list[list[int]] = [[] for _ in range(self.batches)]
        for number in range(self.batch_size):
            there = range(self.batches) if number % 2 == 0 else reversed(range(self.batches))
            for hand in there:
                hands[hand].append(step.pop())
        return [row for hand in hands for row in hand]
