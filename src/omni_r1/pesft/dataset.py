"""Trajectories as training rows: token ids, and labels on what the model is to say and draw."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from omni_r1.errors import InputError, OmniError
from omni_r1.files import read_jsonl
from omni_r1.pesft.losses import IGNORED
from omni_r1.trajectory import Trajectory
from omni_r1.vocabulary import Vocabulary


class TrajectoryDataset(Dataset):
    """Rows of a JSONL file of trajectories (`Trajectory.to_json`, other keys ignored).

    The prompt is no target; with an empty prompt all but the first token is one. Raises InputError for a row that is
    malformed, has no response, does not render with this vocabulary or is longer than `max_length` tokens.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, max_length: int) -> None:
        self.rows: list[tuple[Tensor, int]] = []
        for number, row in read_jsonl(path):
            if isinstance(row, InputError):
                raise row
            try:
                rendered = vocabulary.render(Trajectory.from_json(row))
            except OmniError as error:
                raise InputError(str(error), file=path, row=number) from error
            if len(rendered.ids) > max_length:
                message = f"{len(rendered.ids)} tokens, more than max_length {max_length}"
                raise InputError(message, file=path, row=number)
            if len(rendered.ids) <= max(rendered.prompt_length, 1):
                raise InputError("is empty, so there is nothing to learn", file=path, row=number, field="response")
            self.rows.append((torch.tensor(rendered.ids, dtype=torch.int32), max(rendered.prompt_length, 1)))
        if not self.rows:
            raise InputError("no rows to train on", file=path)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids, prompt_length = self.rows[index]
        labels = ids.long()
        labels[:prompt_length] = IGNORED
        return {"input_ids": ids.long(), "labels": labels}

    def length(self, index: int) -> int:
        return len(self.rows[index][0])


class PadRight:
    """Stack rows, padded on the right: causal attention never looks at padding, so no attention mask is needed."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        fill = {"input_ids": self.pad, "labels": IGNORED}
        return {
            key: torch.nn.utils.rnn.pad_sequence([row[key] for row in rows], batch_first=True, padding_value=value)
            for key, value in fill.items()
        }


class StepSampler(Sampler[int]):
    """Shuffled rows; the rows of one optimiser step are sorted by length, so that its micro-batches pad little.

    The steps themselves stay a random mix (sorting over more than a step would make whole steps of one task).
    """

    def __init__(self, dataset: TrajectoryDataset, step_size: int, seed: int) -> None:
        self.dataset, self.step_size, self.seed, self.epoch = dataset, step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()
        for start in range(0, len(order), self.step_size):
            yield from sorted(order[start : start + self.step_size], key=self.dataset.length)
