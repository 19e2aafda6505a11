"""A compiled decoding step, for GPUs: there, launching the kernels of a small step takes longer than running them.

Compiled code and recorded launches want shapes and addresses that stay. So the cache has a fixed number of slots for
rows, its columns double when they are full, and a mask says what is in use. All else is `Batch`'s.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import Cache

from omni_r1.generate.backend import Row
from omni_r1.generate.batch import Batch, GrowingLayer, last_states
from omni_r1.model.chameleon import Chameleon

LEAST_COLUMNS = 1024
Decode = Callable[[Chameleon, Tensor, Tensor, Tensor, Cache], Tensor]


def compile_decode(device: torch.device) -> Decode:
    """`last_states`, compiled; on CUDA its launches are recorded and replayed."""
    return torch.compile(last_states, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)


class FixedBatch(Batch):
    """A `Batch` whose steps have few shapes: `slots` rows, or a multiple of them, and a power of two of columns."""

    layers: list["FixedLayer"]  # type: ignore[assignment]

    def __init__(self, model: Chameleon, pad: int, slots: int, decode: Decode) -> None:
        super().__init__(model, pad)
        self.slots, self.decode = slots, decode
        self.column = torch.zeros(1, dtype=torch.long, device=model.device)
        self.layers = [FixedLayer(self.column) for _ in self.layers]
        self.cache = Cache(layers=[*self.layers])

    @torch.inference_mode()
    def step(self) -> tuple[list[Row], Tensor]:
        """Feed every row's last token. The rows, and their last states (B, H)."""
        self.length += 1
        slots = -(-len(self.rows) // self.slots) * self.slots
        columns = max(LEAST_COLUMNS, 1 << (self.length - 1).bit_length())
        for layer in self.layers:
            layer.fix(slots, columns, self.length)
        self.column.fill_(self.length - 1)
        unused = slots - len(self.rows)
        tokens = self._slots([row.ids[-1] for row in self.rows] + [self.pad] * unused)
        starts = self._slots(self.starts + [self.length - 1] * unused)  # an unused slot sees itself: no NaN
        places = torch.arange(columns, device=tokens.device)
        mask = (places >= starts) & (places < self.length)
        hidden = self.decode(self.model, tokens, self.length - 1 - starts, mask[:, None, None], self.cache)
        return self.rows, hidden[: len(self.rows)].clone()  # the next step may write into the same memory

    def _slots(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=self.model.device)[:, None]


class FixedLayer(GrowingLayer):
    """A cache layer that writes one column, `column` (1,), into stores whose place in memory stays."""

    fixed: tuple[Tensor, Tensor] | None = None

    def __init__(self, column: Tensor) -> None:
        super().__init__()
        self.column, self.rows = column, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Write keys and values (slots, heads, 1, head_dim); all of both, used or not."""
        self.room[0].index_copy_(2, self.column, key_states)
        self.room[1].index_copy_(2, self.column, value_states)
        return self.room

    def join(self, fresh: GrowingLayer, source: Tensor, length: int) -> None:
        self._only_rows()
        super().join(fresh, source, length)
        self.rows = len(self.room[0])

    def keep(self, places: Tensor, unused: int) -> None:
        self._only_rows()
        super().keep(places, unused)
        self.rows = len(self.room[0])

    def fix(self, slots: int, columns: int, length: int) -> None:
        """Make the stores (slots, heads, columns, head_dim), in the same memory as before where that is their shape."""
        self.length = length
        if self.room is self.fixed and self.room[0].shape[::2] == (slots, columns):
            return
        if self.fixed is None or self.fixed[0].shape[::2] != (slots, columns):
            self.fixed = self._empty(self.room[0], slots, columns), self._empty(self.room[1], slots, columns)
        for target, store in zip(self.fixed, self.room, strict=True):
            target[: self.rows, :, : length - 1] = store[: self.rows, :, : length - 1]
        self.room = self.fixed

    def _empty(self, like: Tensor, slots: int, columns: int) -> Tensor:
        store = like.new_zeros(slots, like.shape[1], columns, like.shape[3])
        torch._dynamo.mark_static_address(store)
        return store

    def _only_rows(self) -> None:
        if self.is_initialized:
            self.room = self.room[0][: self.rows], self.room[1][: self.rows]
