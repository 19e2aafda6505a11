"""Log-probs of responses under the grammar: the distribution that the sampler draws from, with a gradient.

At each response position the grammar allows one of a few sets of tokens (`Grammar.sets`), and of the head only that
set's columns are computed: an image code is one among the codes, a forced token costs nothing. Without the grammar the
ratio of two policies is that of other distributions than the one sampled from, and silently so.

Shape letters: B rows, T tokens, H hidden size, V vocabulary, n tokens of one set.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omni_r1.generate.backend import SamplingOptions
from omni_r1.generate.transformers_backend import process
from omni_r1.grammar import Grammar

NOTHING = -1  # in `sets`: no token of a response
LOGITS_AT_ONCE = 2**25  # 128 MiB of fp32


class Scores(NamedTuple):
    """Of each token (B, T), in nats, 0 where there is no response token.

    logps: log-probs under temperature and grammar; entropies: of that distribution; sampled: log-probs under top-k and
    top-p as well, where they were asked for. All fp32.
    """

    logps: Tensor
    entropies: Tensor
    sampled: Tensor | None


class TokenScorer:
    """Scores the tokens of responses from the hidden states before them.

    `options` are those of sampling; of them the temperature is always part of the distribution, top-k and top-p only
    of `Scores.sampled`: they shape what is explored, not what is optimised.
    """

    def __init__(self, grammar: Grammar, options: SamplingOptions) -> None:
        self.options = options
        self.columns = [row.nonzero().squeeze(1) for row in grammar.sets]
        self.place_of = []
        for columns in self.columns:
            table = torch.full((grammar.vocabulary.size,), -1)
            table[columns] = torch.arange(len(columns))
            self.place_of.append(table)
        self.whole = [len(columns) == grammar.vocabulary.size for columns in self.columns]

    def __call__(self, hidden: Tensor, head: nn.Linear, ids: Tensor, sets: Tensor, sampled: bool = False) -> Scores:
        """hidden (B, T, H) after the final norm, ids (B, T), sets (B, T): the grammar's set at each response token."""
        states, targets, kinds = hidden[:, :-1], ids[:, 1:], sets[:, 1:]
        out = [hidden.new_zeros(ids.shape, dtype=torch.float32) for _ in range(3 if sampled else 2)]
        for kind in torch.unique(kinds).tolist():
            if kind == NOTHING or len(self.columns[kind]) == 1:  # a forced token has log-prob 0 and no entropy
                continue
            where = (kinds == kind).nonzero(as_tuple=True)
            places = self.place_of[kind].to(ids.device)[targets[where]]
            weight = head.weight if self.whole[kind] else head.weight[self.columns[kind].to(ids.device)]
            for scores, found in zip(out, self._of_one_set(states[where], weight, places, sampled), strict=True):
                scores[where[0], where[1] + 1] = found
        return Scores(out[0], out[1], out[2] if sampled else None)

    def _of_one_set(self, states: Tensor, weight: Tensor, places: Tensor, sampled: bool) -> list[Tensor]:
        """(n,) log-probs, entropies and log-probs as sampled of tokens at `places` among the columns of `weight`."""
        rows = max(1, LOGITS_AT_ONCE // len(weight))
        chunks = [
            # What is made of a chunk's logits is made again on the way back: they are never all there at once.
            checkpoint(self._of_chunk, states[part], weight, places[part], sampled, use_reentrant=False)
            if len(states) > rows and torch.is_grad_enabled()
            else self._of_chunk(states[part], weight, places[part], sampled)
            for part in (slice(start, start + rows) for start in range(0, len(states), rows))
        ]
        return [torch.cat(column) for column in zip(*chunks, strict=True)]

    def _of_chunk(self, states: Tensor, weight: Tensor, places: Tensor, sampled: bool) -> list[Tensor]:
        raw = nn.functional.linear(states, weight).float()
        logits = raw / self.options.temperature
        logps = logits.log_softmax(-1)
        entropies = -(logps.exp() * logps).sum(-1)
        out = [logps.gather(1, places[:, None]).squeeze(1), entropies]
        if sampled:
            cut = process(raw, self.options).log_softmax(-1)
            out.append(cut.gather(1, places[:, None]).squeeze(1))
        return out
