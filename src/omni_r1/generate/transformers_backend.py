"""The default backend and the oracle for the others: batched decoding on upstream's forward.

The loop is our own and not `model.generate`, because every row stops by itself, has its own grammar state and
budget, and draws from its own random numbers: what a row becomes does not depend on its neighbours.

Shape letters: B rows, T tokens so far, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from omni_r1.generate.backend import (
    Completion,
    Progress,
    Prompt,
    Row,
    SamplingOptions,
    admit,
    row_seeds,
)
from omni_r1.grammar import Grammar

if TYPE_CHECKING:
    from omni_r1.model import Omni


class TransformersBackend:
    """Completes prompts with the model of an `Omni`, `batch_size` rows at a time, rows of like length together."""

    def __init__(self, omni: "Omni", batch_size: int = 64) -> None:
        self.model = omni.model
        self.vocabulary = omni.vocabulary
        self.batch_size = batch_size

    def generate(
        self,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        *,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """See `Backend.generate`. `progress` is called after every step of a batch."""
        grammar = Grammar(self.vocabulary, options.mode, options.max_images)
        budget = options.max_new_tokens
        entries = [
            admit(prompt, self.vocabulary, grammar, budget, seed)
            for prompt, seed in zip(prompts, row_seeds(seeds, options, len(prompts)), strict=True)
        ]
        rows = sorted((entry for entry in entries if isinstance(entry, Row)), key=lambda row: len(row.ids))
        meter = _Meter(progress, len(entries) - len(rows))
        training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(rows), self.batch_size):
                self._decode(rows[start : start + self.batch_size], grammar, options, meter)
        finally:
            self.model.train(training)
        return [entry.completion(self.vocabulary) if isinstance(entry, Row) else entry for entry in entries]

    @torch.inference_mode()
    def _decode(self, rows: list[Row], grammar: Grammar, options: SamplingOptions, meter: "_Meter") -> None:
        """Run one batch to its end, filling the rows in place."""
        batch = _Batch(rows, self.model.config.num_hidden_layers, self.vocabulary.pad, self.model.device)
        uniform = _uniform(rows, options).to(self.model.device) if options.do_sample else None
        for step in range(options.max_new_tokens):
            logits = grammar.mask(batch.forward(self.model), [row.state for row in batch.rows])
            draw = None if uniform is None else uniform[batch.places, step]
            tokens, logprobs = choose(logits, options, draw)
            last = step + 1 == options.max_new_tokens
            for row, token, logprob in zip(batch.rows, tokens.tolist(), logprobs.tolist(), strict=True):
                if row.stop is None and row.error is None:
                    self._take(row, token, logprob, grammar, last)
                    meter.tokens += 1
                    meter.rows += row.stop is not None or row.error is not None
            meter.report()
            if not batch.extend(tokens):
                break

    def _take(self, row: Row, token: int, logprob: float, grammar: Grammar, last: bool) -> None:
        if not math.isfinite(logprob):  # NaN or infinite logits: nothing after this would mean anything
            row.error = f"the model's logits are not finite at position {len(row.ids)}"
            return
        row.ids.append(token)
        row.logprobs.append(logprob)
        if token == self.vocabulary.eos:
            row.stop = "end"
        elif last:
            row.stop = "length"
        else:
            row.state = grammar.advance(row.state, token)


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


def _uniform(rows: Sequence[Row], options: SamplingOptions) -> Tensor:
    """(B, max_new_tokens) draws, each row's from its own seed."""
    draws = []
    for row in rows:
        generator = torch.Generator().manual_seed(row.seed)
        draws.append(torch.rand(options.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(draws)


class _Batch:
    """Rows being decoded together: their left-padded inputs and their cache."""

    def __init__(self, rows: list[Row], layers: int, pad: int, device: torch.device) -> None:
        width = max(len(row.ids) for row in rows)
        padded = [[pad] * (width - len(row.ids)) + row.ids for row in rows]
        real = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
        self.rows = rows
        self.places = torch.arange(len(rows), device=device)  # each row's place in the batch as it was started
        self.input = torch.tensor(padded, device=device)
        self.mask = torch.tensor(real, device=device)
        self.position = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.layers = [GrowingLayer() for _ in range(layers)]
        self.cache = Cache(layers=[*self.layers])

    def forward(self, model: Any) -> Tensor:
        """fp32 logits (B, V) of the next token."""
        output = model(
            input_ids=self.input,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def extend(self, tokens: Tensor) -> bool:
        """Feed the chosen tokens (B,) next; False when no row goes on. Finished rows leave once they are half."""
        alive = [i for i, row in enumerate(self.rows) if row.stop is None and row.error is None]
        if not alive:
            return False
        self.input = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.rows), 1)], 1)
        self.position = self.position[:, -1:] + 1
        if 2 * len(alive) <= len(self.rows):
            self._keep(torch.tensor(alive, device=tokens.device))
            self.rows = [self.rows[i] for i in alive]
        return True

    def _keep(self, places: Tensor) -> None:
        self.places, self.input = self.places[places], self.input[places]
        self.mask, self.position = self.mask[places], self.position[places]
        for layer in self.layers:
            layer.batch_select_indices(places)


class GrowingLayer(DynamicLayer):
    """A cache layer with spare room. Upstream's copies all its keys and values for every new token."""

    room: tuple[Tensor, Tensor]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.length = 0
        self.room = key_states[:, :, :0], value_states[:, :, :0]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, new, head_dim) and return all of them so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.length > self.room[0].shape[-2]:
            self.room = _more_room(self.room[0], start, self.length), _more_room(self.room[1], start, self.length)
        self.room[0][:, :, start : self.length] = key_states
        self.room[1][:, :, start : self.length] = value_states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self.room = self.room[0][indices], self.room[1][indices]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self.room[0][:, :, : self.length], self.room[1][:, :, : self.length]
        return self.keys, self.values


def _more_room(store: Tensor, filled: int, length: int) -> Tensor:
    """A store (B, heads, length and some more, head_dim) that begins with what fills this one."""
    larger = store.new_empty(*store.shape[:2], length + max(64, length // 4), store.shape[3])
    larger[:, :, :filled] = store[:, :, :filled]
    return larger


class _Meter:
    """Counts rows and tokens over one `generate` call for its progress callback."""

    def __init__(self, progress: Progress | None, rows_done: int) -> None:
        self.progress, self.rows, self.tokens = progress, rows_done, 0

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.rows, self.tokens)
