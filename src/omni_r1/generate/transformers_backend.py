"""The default backend and the oracle for the others: batched decoding on upstream's forward.

The loop is our own and not `model.generate`, because every row stops by itself, has its own grammar state and budget,
and draws from its own random numbers: what a row becomes does not depend on its neighbours. Rows that end make room for
rows that wait, the samples of one prompt share its prefill, and of the head only those columns are computed that the
grammar allows.

Shape letters: B rows, T tokens so far, V vocabulary, H hidden size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from omni_r1.generate.backend import Backend, Completion, Progress, Request, Row, SamplingOptions, admit
from omni_r1.grammar import CODES, Grammar
from omni_r1.model.chameleon import Chameleon

if TYPE_CHECKING:
    from omni_r1.model import Omni

CROWDED = 8  # ended rows leave the batch once they are one in so many


class TransformersBackend(Backend):
    """Completes prompts with the model of an `Omni`, up to `batch_size` rows at a time.

    `compiled`: decode by a compiled step of fixed shapes, for GPUs. The first steps then take a minute.
    """

    def __init__(self, omni: "Omni", batch_size: int = 64, compiled: bool = False) -> None:
        self.model = omni.model
        self.vocabulary = omni.vocabulary
        self.batch_size = batch_size
        self._decode: Any = None
        if compiled:
            from omni_r1.generate.compiled import compile_decode

            self._decode = compile_decode(omni.device)

    def stream(
        self, requests: Iterable[Request], options: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[tuple[int, int, Completion]]:
        """See `Backend.stream`. `progress` is called after every step. The model is in eval mode meanwhile."""
        grammar = Grammar(self.vocabulary, options.mode, options.max_images, options.max_text_tokens)
        training = self.model.training
        self.model.eval()
        try:
            yield from self._stream(iter(requests), options, grammar, progress)
        finally:
            self.model.train(training)

    def _stream(
        self, requests: Iterator[Request], options: SamplingOptions, grammar: Grammar, progress: Progress | None
    ) -> Iterator[tuple[int, int, Completion]]:
        chooser = Chooser(self.model, grammar, options)
        batch = self._batch()
        waiting: list[list[Row]] = []  # groups of rows with one prompt
        rows_done = tokens = 0
        exhausted = False
        while True:
            while not exhausted and batch.alive + sum(map(len, waiting)) < self.batch_size:
                request = next(requests, None)
                if request is None:
                    exhausted = True
                    break
                admitted = admit(request, self.vocabulary, grammar, options)
                for row in admitted:
                    if row.done:
                        rows_done += 1
                        yield row.key, row.place, row.completion(self.vocabulary)
                waiting += [admitted] if admitted and not admitted[0].done else []
            if waiting:  # the batch is full with them, or they are the last
                rows, hidden = batch.enter(waiting + [chooser.shadows(group) for group in waiting])
                waiting = []
            elif batch.alive:
                rows, hidden = batch.step()
            else:
                return
            before = [row for row in rows if not row.done and not isinstance(row, Shadow)]
            chooser.extend(rows, hidden)
            tokens += len(before)
            if chooser.guided:
                batch.begin([shadow for row in before for shadow in chooser.shadows([row])], self.vocabulary.boi)
            for row in before:
                if row.done:
                    rows_done += 1
                    yield row.key, row.place, row.completion(self.vocabulary)
            batch.leave()
            if progress is not None:
                progress(rows_done, tokens)

    def _batch(self) -> "Batch":
        if self._decode is None:
            return Batch(self.model, self.vocabulary.pad)
        from omni_r1.generate.compiled import FixedBatch

        return FixedBatch(self.model, self.vocabulary.pad, self.batch_size, self._decode)


class Shadow(Row):
    """An open image of a row with nothing before it: what guidance leads away from. It grows as the row does."""


class Chooser:
    """Chooses the next token of each row from its last hidden state, under the grammar and the sampling options."""

    def __init__(self, model: Chameleon, grammar: Grammar, options: SamplingOptions) -> None:
        self.head, self.grammar, self.options = model.lm_head, grammar, options
        self.guided = options.guidance_scale != 1
        self.draws: dict[tuple[int, int], Tensor] = {}
        sizes = grammar.sets.sum(1).tolist()
        # Sets of few tokens have columns of the head to themselves; of the others a mask is kept.
        narrow = [index for index, size in enumerate(sizes) if 2 * size < grammar.vocabulary.size]
        self.columns = {index: grammar.sets[index].nonzero().squeeze(1).to(model.device) for index in narrow}
        self.barred = {i: ~grammar.sets[i].to(model.device) for i in range(len(sizes)) if i not in self.columns}
        self.weights: dict[int, Tensor] = {}

    @torch.inference_mode()
    def extend(self, rows: Sequence[Row], hidden: Tensor) -> None:
        """Give every row that is not done its next token; `hidden` (B, H) are the rows' last states."""
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            if not row.done and not isinstance(row, Shadow):
                groups.setdefault(self.grammar.allowed(row.state), []).append(place)
        shadows = {id(row): place for place, row in enumerate(rows) if isinstance(row, Shadow)}
        for index, places in groups.items():
            chosen = [rows[place] for place in places]
            if self.guided and index == CODES:
                places = places + [shadows[id(row.shadow)] for row in chosen]
            states = hidden if places == list(range(len(rows))) else hidden[places]
            tokens, logprobs = self._choose(index, states, chosen)
            for row, token, logprob in zip(chosen, tokens.tolist(), logprobs.tolist(), strict=True):
                self._take(row, token, logprob)

    def shadows(self, rows: Sequence[Row]) -> list[Row]:
        """A new shadow for each of these rows, which have the same ids, if they need one and have none."""
        words, made = self.grammar.vocabulary, list[Row]()
        for row in rows:
            if self.guided and row.shadow is None and not row.done and self.grammar.allowed(row.state) == CODES:
                image = row.ids[len(row.ids) - (row.state.drawn or 0) - 1 :]
                row.shadow = Shadow([words.bos, *image], 1, row.state, row.seed, row.key, row.place, row.budget)
                made.append(row.shadow)
        return made

    def _choose(self, index: int, hidden: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Tokens (B,) and log-probs (B,) from states (B, H), behind which their shadows' may stand (2 B, H)."""
        columns = self.columns.get(index)
        draw = self._draws(rows).to(hidden.device) if self.options.do_sample else None
        if columns is None:
            logits = self.head(hidden).float()
        else:
            if index not in self.weights:
                self.weights[index] = self.head.weight[columns]
            logits = torch.nn.functional.linear(hidden, self.weights[index]).float()
        if len(logits) > len(rows):
            given, nothing = logits.chunk(2)
            logits = nothing + self.options.guidance_scale * (given - nothing)
        if columns is None:
            return choose(logits.masked_fill(self.barred[index], -torch.inf), self.options, draw)
        chosen, logprobs = choose(logits, self.options, draw)
        return columns[chosen], logprobs

    def _draws(self, rows: Sequence[Row]) -> Tensor:
        """(B,) the rows' next random numbers in [0, 1), each from its own seed."""
        for row in rows:
            if (row.key, row.place) not in self.draws:
                generator = torch.Generator().manual_seed(row.seed)
                self.draws[row.key, row.place] = torch.rand(row.budget, generator=generator, dtype=torch.float64)
        return torch.stack([self.draws[row.key, row.place][len(row.logprobs)] for row in rows])

    def _take(self, row: Row, token: int, logprob: float) -> None:
        if not math.isfinite(logprob):  # NaN or infinite logits: nothing after this would mean anything
            row.error = f"the model's logits are not finite at position {len(row.ids)}"
        else:
            row.ids.append(token)
            row.logprobs.append(logprob)
            if token == self.grammar.vocabulary.eos:
                row.stop = "end"
            elif len(row.logprobs) == row.budget:
                row.stop = "length"
            else:
                row.state = self.grammar.advance(row.state, token)
        if row.shadow is not None:
            row.shadow.ids.append(token)
            if row.done or self.grammar.allowed(row.state) != CODES:
                row.shadow.stop, row.shadow = "end", None
        if row.done:
            self.draws.pop((row.key, row.place), None)


def choose(logits: Tensor, options: SamplingOptions, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """Next tokens (B,) and their log-probs (B,) from masked logits (B, V).

    Greedy without `uniform`; else the inverse of the cumulative distribution at `uniform` (B,) in [0, 1).
    """
    if uniform is None:
        tokens = logits.argmax(-1)
        return tokens, _logprobs(logits, tokens)
    logits = process(logits, options)
    # In double, and first index *above* the draw: a token of probability 0 can then never be hit.
    cumulative = logits.softmax(-1).double().cumsum(-1)
    total = cumulative[:, -1:]
    point = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return tokens, _logprobs(logits, tokens)


def process(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Temperature, then top-k, then top-p, on masked logits (..., V): what is cut becomes -inf."""
    logits = logits / options.temperature
    if not options.top_k and options.top_p == 1:
        return logits
    ordered, order = logits.sort(-1, descending=True)
    if options.top_k:
        ordered[..., options.top_k :] = -torch.inf
    if options.top_p < 1:
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        ordered = ordered.masked_fill(before >= options.top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(-1, order, ordered)


def _logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)


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
        output = self.model.model(
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
