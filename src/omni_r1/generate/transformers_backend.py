"""The default backend and the oracle for the others: batched decoding on upstream's forward.

The loop is our own and not `model.generate`, because every row stops by itself, has its own grammar state and budget,
and draws from its own random numbers: what a row becomes does not depend on its neighbours. Rows that end make room for
rows that wait, the samples of one prompt share its prefill, and of the head only those columns are computed that the
grammar allows.

Shape letters: B rows, T tokens so far, V vocabulary, H hidden size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omni_r1.generate.backend import Backend, Completion, Progress, Request, Row, SamplingOptions, admit
from omni_r1.generate.batch import Batch
from omni_r1.generate.compiled import FixedBatch, compile_decode
from omni_r1.grammar import CODES, Grammar
from omni_r1.model.chameleon import Chameleon

if TYPE_CHECKING:
    from omni_r1.model import Omni


class TransformersBackend(Backend):
    """Completes prompts with the model of an `Omni`, up to `batch_size` rows at a time.

    `compiled`: decode by a compiled step of fixed shapes, for GPUs. The first steps then take a minute.
    """

    def __init__(self, omni: "Omni", batch_size: int = 64, compiled: bool = False) -> None:
        self.model = omni.model
        self.vocabulary = omni.vocabulary
        self.batch_size = batch_size
        self._decode = compile_decode(omni.device) if compiled else None

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

    def _batch(self) -> Batch:
        if self._decode is None:
            return Batch(self.model, self.vocabulary.pad)
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
