"""Rows that are decoded together, and their cache.

Shape letters: B rows, T tokens so far, H hidden size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from omni_r1.generate.backend import Row
from omni_r1.model.chameleon import Chameleon

CROWDED = 8  # ended rows leave the batch once they are one in so many


class Batch:
    """Rows being decoded together and their cache: every row ends at the same column, padded in front."""

    def __init__(self, model: Chameleon, pad: int) -> None:
        self.model, self.pad = model, pad
        self.rows: list[Row] = []
        self.layers = [GrowingLayer() for _ in range(model.config.num_hidden_layers)]
        self.cache = Cache(layers=[*self.layers])
        self.length = 0  # T
        self.starts: list[int] = []  # the column each row begins in

    @property
    def alive(self) -> int:
        return sum(not row.done for row in self.rows)

    @torch.inference_mode()
    def enter(self, groups: Sequence[Sequence[Row]]) -> tuple[list[Row], Tensor]:
        """Read the prompt of each group once and take its rows in. The rows, and their last states (B, H)."""
        groups = [group for group in groups if group]
        prompts = [group[0].ids for group in groups]
        width = max(map(len, prompts))
        layers = [GrowingLayer() for _ in self.layers]
        tokens = torch.tensor([[self.pad] * (width - len(ids)) + ids for ids in prompts], device=self.model.device)
        starts = [width - len(ids) for ids in prompts]
        hidden = self._forward(tokens, starts, width, Cache(layers=[*layers]))
        rows = [row for group in groups for row in group]
        source = torch.tensor([place for place, group in enumerate(groups) for _ in group], device=tokens.device)
        length = max(self.length, width)
        for layer, fresh in zip(self.layers, layers, strict=True):
            layer.join(fresh, source, length)
        self.starts = [start + length - self.length for start in self.starts]
        self.starts += [starts[place] + length - width for place in source.tolist()]
        self.rows += rows
        self.length = length
        return rows, hidden[source]

    def begin(self, shadows: Sequence[Row], boi: int) -> None:
        """Take in shadows (BOS, BOI) of images that begin: their BOI is read with the next step, as their rows' is."""
        if shadows:
            for shadow in shadows:
                shadow.ids.pop()
            self.enter([shadows])
            for shadow in shadows:
                shadow.ids.append(boi)

    @torch.inference_mode()
    def step(self) -> tuple[list[Row], Tensor]:
        """Feed every row's last token. The rows, and their last states (B, H)."""
        self.length += 1
        tokens = torch.tensor([[row.ids[-1]] for row in self.rows], device=self.model.device)
        return self.rows, self._forward(tokens, self.starts, self.length, self.cache)

    def leave(self) -> None:
        """Let the rows go that are done, once they are many enough to be worth the move."""
        places = [place for place, row in enumerate(self.rows) if not row.done]
        if CROWDED * (len(self.rows) - len(places)) < len(self.rows) or len(places) == len(self.rows):
            return
        self.rows, self.starts = [self.rows[i] for i in places], [self.starts[i] for i in places]
        unused = min(self.starts, default=self.length)
        for layer in self.layers:
            layer.keep(torch.tensor(places, device=self.model.device, dtype=torch.long), unused)
        self.starts, self.length = [start - unused for start in self.starts], self.length - unused

    def _forward(self, tokens: Tensor, starts: Sequence[int], length: int, cache: Cache) -> Tensor:
        """Last hidden states (B, H) after feeding tokens (B, n), the last of which stand in column `length` - 1."""
        columns = torch.arange(length, device=tokens.device)
        first = torch.tensor(starts, device=tokens.device)[:, None]
        positions = (columns[length - tokens.shape[1] :] - first).clamp(min=0)
        mask = (columns >= first).long() if any(starts) else None
        return last_states(self.model, tokens, positions, mask, cache)


def last_states(model: Chameleon, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache) -> Tensor:
    """Last hidden states (B, H) for tokens (B, n). `mask`: columns in use (B, T), or what is seen (B, 1, n, T)."""
    output = model.model(
        input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return output.last_hidden_state[:, -1]


class GrowingLayer(DynamicLayer):
    """A cache layer with spare room. Upstream's copies all its keys and values for every new token."""

    room: tuple[Tensor, Tensor]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.length = 0
        self.room = key_states[:, :, :0], value_states[:, :, :0]

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, new, head_dim) and return all of them so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.length > self.room[0].shape[-2]:
            self.room = _more_room(self.room[0], start, self.length), _more_room(self.room[1], start, self.length)
        self.room[0][:, :, start : self.length] = key_states
        self.room[1][:, :, start : self.length] = value_states
        return self._show()

    def join(self, fresh: "GrowingLayer", source: Tensor, length: int) -> None:
        """Take in rows `source` of a fresh layer; both are moved to end at column `length`."""
        keys, values = fresh._show()
        source = source.to(keys.device)  # layers may lie on several devices
        if not self.is_initialized:
            self.lazy_initialization(keys[:0], values[:0])
            self.room = keys[source], values[source]
        else:
            old_keys, old_values = self._show()
            self.room = (
                torch.cat([_right(old_keys, length), _right(keys[source], length)]),
                torch.cat([_right(old_values, length), _right(values[source], length)]),
            )
        self.length = length
        self._show()

    def keep(self, places: Tensor, unused: int) -> None:
        """Keep these rows, without the first `unused` columns."""
        places = places.to(self.room[0].device)
        self.room = self.room[0][places][:, :, unused:], self.room[1][places][:, :, unused:]
        self.length -= unused
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = self.room[0][:, :, : self.length], self.room[1][:, :, : self.length]
        self.keys, self.values = keys, values
        return keys, values


def _right(store: Tensor, length: int) -> Tensor:
    """A store (B, heads, T, head_dim) with zeros in front, so that it is `length` long."""
    return torch.nn.functional.pad(store, (0, 0, length - store.shape[2], 0))


def _more_room(store: Tensor, filled: int, length: int) -> Tensor:
    """A store (B, heads, length and some more, head_dim) that begins with what fills this one."""
    larger = store.new_empty(*store.shape[:2], length + max(64, length // 4), store.shape[3])
    larger[:, :, :filled] = store[:, :, :filled]
    return larger
