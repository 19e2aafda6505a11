"""How much a drawing and the words of its row have to do with each other, by the model's own likelihoods.

Of a step: log p(words | drawing) - log p(words), everything before them given. By Bayes' rule that is
log p(drawing | words) - log p(drawing), which is the direction the model is trained in, so that is what is computed. Of
a row: log p(answer | its words and drawings) - log p(answer | its words alone), without its conclusion, which may say
the answer already. ("By Bayes' rule" as far as a drawing below no words stands for a drawing below any.)
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import torch

from omni_r1.generate.backend import SamplingOptions
from omni_r1.grammar import Grammar
from omni_r1.model import Omni
from omni_r1.perpo.logprobs import NOTHING, TokenScorer
from omni_r1.trajectory import FINAL_ANSWER, TAGS, Text, Trajectory
from omni_r1.vocabulary import Vocabulary
from omni_r1.zero.draw import Candidate, Traced, prompt_of, trace
from omni_r1.zero.options import BootstrapOptions


class Likelihood:
    """Log-probs of continuations under the grammar at temperature 1, `batch_size` of them at a time."""

    def __init__(self, omni: Omni, batch_size: int) -> None:
        self.model, self.vocabulary, self.batch_size = omni.model, omni.vocabulary, batch_size
        self.grammar = Grammar(omni.vocabulary)
        self.scorer = TokenScorer(self.grammar, SamplingOptions())

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """Sum over the tokens of each (ids before, ids of the continuation), in nats."""
        order = sorted(range(len(pairs)), key=lambda place: sum(map(len, pairs[place])))  # alike in length together
        found = [0.0] * len(pairs)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            for place, value in zip(part, self._of([pairs[place] for place in part]), strict=True):
                found[place] = value
        return found

    def _of(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        width, device = max(len(before) + len(after) for before, after in pairs), self.model.device
        ids = torch.full((len(pairs), width), self.vocabulary.pad)
        sets = torch.full((len(pairs), width), NOTHING)
        for row, (before, after) in enumerate(pairs):
            whole = [*before, *after]
            ids[row, : len(whole)] = torch.tensor(whole)
            sets[row, len(before) : len(whole)] = self.grammar.indices(whole, len(before), 2**31)
        ids, sets = ids.to(device), sets.to(device)
        hidden = self.model.model(
            input_ids=ids, use_cache=False
        ).last_hidden_state  # causal: padding behind is not seen
        return self.scorer(hidden, self.model.lm_head, ids, sets).logps.double().sum(1).tolist()


def step_agreements(
    rows: Sequence[Traced], candidates: Sequence[Sequence[Candidate]], options: BootstrapOptions, likely: Likelihood
) -> list[list[float]]:
    """Of each candidate for the next step of each row: nats a code that its words make it likelier by."""
    vocabulary = likely.vocabulary
    pairs: list[tuple[list[int], list[int]]] = []
    for row, drawn in zip(rows, candidates, strict=True):
        with_words, without = prompt_of(row, options, vocabulary), prompt_of(row, options, vocabulary, words="")
        for one in drawn:
            tokens = vocabulary.codes_to_tokens(torch.tensor([one.codes]))[0].tolist()
            pairs += [(with_words, tokens), (without, tokens)]
    values = iter(likely(pairs))
    return [[(next(values) - next(values)) / vocabulary.image_length for _ in drawn] for drawn in candidates]


def answer_gains(rows: Sequence[Traced], options: BootstrapOptions, likely: Likelihood) -> list[float]:
    """Of each row with all its drawings: nats that they make its answer likelier by."""
    pairs = []
    for row in rows:
        unsaid = replace(row, conclusion="")
        for drawings in (row.drawings, [None] * len(row.drawings)):
            pairs.append(answer_of(trace(unsaid, drawings, options.template), likely.vocabulary))
    values = iter(likely(pairs))
    return [next(values) - next(values) for _ in rows]


def answer_of(whole: Trajectory, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    """Token ids up to a trajectory's answer, and from there to its end: a token that begins with the space before the
    answer is the answer's."""
    ids, last = vocabulary.render(whole).ids, whole.response[-1]
    said = last.text if isinstance(last, Text) else ""
    mark = TAGS.answer_open if TAGS.answer_open in said else FINAL_ANSWER
    before = vocabulary.encode_text(said[: said.rindex(mark) + len(mark)])
    ending = vocabulary.render(Trajectory((), (last,), ended=True)).ids[1:]
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, ending, strict=False)))
    cut = len(ids) - len(ending) + common
    return ids[:cut], ids[cut:]
