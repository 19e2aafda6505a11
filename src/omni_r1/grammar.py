"""Which token may follow which: the one state machine behind sampling, log-probs and the format reward.

An image is BOI, S codes, EOI, so a mask depends on little: inside an image or not, and whether another image still
fits. `Grammar.sets` holds the few distinct masks, and a state only says which of them is next. The rules of each mode
are the original's (checkpoint contract, "generation modes").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omni_r1.errors import OmniError
from omni_r1.vocabulary import Vocabulary

MODES = ("interleaved", "unrestricted", "text-only", "image-only")
ALIASES = {"interleaved-text-image": "interleaved"}

# Indices into Grammar.sets.
FREE, CODES, END_OF_IMAGE, WITH_IMAGE, WITHOUT_IMAGE, FIRST = range(6)


class GrammarError(OmniError):
    """A mode that does not exist, a prompt that cannot be continued, or a token that is not allowed."""


@dataclass(frozen=True)
class State:
    """Where a sequence stands: tokens it may still have, codes drawn of an open image (None outside), images begun.

    `first` is true before the first new token.
    """

    remaining: int
    drawn: int | None = None
    images: int = 0
    first: bool = True


class Grammar:
    """The rules of one mode for one vocabulary. `max_images` bounds the images of the response.

    sets (6, V) bool: the distinct sets of allowed tokens.
    """

    def __init__(self, vocabulary: Vocabulary, mode: str = "interleaved", max_images: int | None = None) -> None:
        mode = ALIASES.get(mode, mode)
        if mode not in MODES:
            raise GrammarError(f"no mode {mode!r}; the modes are {', '.join(MODES)}")
        self.vocabulary, self.mode, self.max_images = vocabulary, mode, max_images
        self.sets = self._sets()
        self._kind = torch.zeros(vocabulary.size, dtype=torch.int8)
        self._kind[vocabulary.codes], self._kind[vocabulary.boi], self._kind[vocabulary.eoi] = 1, 2, 3

    def _sets(self) -> Tensor:
        words = self.vocabulary
        sets = torch.zeros(6, words.size, dtype=torch.bool)
        sets[FREE] = True
        sets[CODES, words.codes] = True
        sets[END_OF_IMAGE, words.eoi] = True
        if self.mode == "image-only":
            sets[WITHOUT_IMAGE, words.eos] = True
            sets[WITH_IMAGE, [words.boi, words.eos]] = True
            sets[FIRST, words.boi] = True  # no empty response
        else:
            sets[[WITHOUT_IMAGE, WITH_IMAGE, FIRST]] = True
            for image_token in (words.codes, words.eoi):
                sets[WITHOUT_IMAGE, image_token] = sets[WITH_IMAGE, image_token] = sets[FIRST, image_token] = False
            sets[WITHOUT_IMAGE, words.boi] = False
        return sets

    def start(self, prompt_ids: Sequence[int], budget: int) -> State:
        """The state behind a prompt, with `budget` new tokens allowed. A prompt may leave an image open.

        Raises GrammarError where the open image is broken or does not fit the budget.
        """
        state = State(budget, self._open_image(prompt_ids))
        if state.drawn is not None and self.mode in ("interleaved", "image-only"):
            missing = self.vocabulary.image_length - state.drawn + 1
            if missing < 1 or missing > budget:
                raise GrammarError(f"the prompt's open image needs {missing} tokens of a budget of {budget}")
        return state

    def _open_image(self, ids: Sequence[int]) -> int | None:
        """Codes since a BOI that no EOI has closed, None where there is none."""
        for back, token in enumerate(reversed(ids)):
            if token == self.vocabulary.boi:
                return back
            if self._kind[token] != 1:
                return None
        return None

    def allowed(self, state: State) -> int:
        """Index into `sets` of what may come next."""
        if self.mode == "unrestricted":
            return FREE
        if self.mode == "text-only":
            return WITHOUT_IMAGE
        if state.drawn is not None:
            return CODES if state.drawn < self.vocabulary.image_length else END_OF_IMAGE
        fits = state.remaining >= self.vocabulary.image_length + 2
        if not fits or (self.max_images is not None and state.images >= self.max_images):
            return WITHOUT_IMAGE
        return FIRST if state.first and self.mode == "image-only" else WITH_IMAGE

    def advance(self, state: State, token: int) -> State:
        """The state after `token`. Raises GrammarError where it is not allowed."""
        if not self.sets[self.allowed(state), token]:
            raise GrammarError(f"token {token} is not allowed here in mode {self.mode}")
        remaining = state.remaining - 1
        if token == self.vocabulary.boi:
            return State(remaining, 0, state.images + 1, False)
        if state.drawn is not None and self._kind[token] == 1:
            return State(remaining, state.drawn + 1, state.images, False)
        return State(remaining, None, state.images, False)

    def mask(self, logits: Tensor, states: Sequence[State]) -> Tensor:
        """Logits (B, V) with -inf where the row's state does not allow the token."""
        if self.mode == "unrestricted":
            return logits
        index = torch.tensor([self.allowed(state) for state in states])
        return logits.masked_fill(~self.sets[index].to(logits.device), -torch.inf)

    def indices(self, ids: Sequence[int], prompt_length: int, budget: int) -> Tensor:
        """(n,) index into `sets` at each of the n response positions: what the sampler could choose from there.

        Raises GrammarError where the response is not legal.
        """
        state = self.start(ids[:prompt_length], budget)
        out = []
        for token in ids[prompt_length:]:
            out.append(self.allowed(state))
            state = self.advance(state, token)
        return torch.tensor(out, dtype=torch.long)

    def violations(self, ids: Sequence[int], prompt_length: int) -> list[str]:
        """What is broken in a response, in words; empty for a whole one. Says nothing of an image cut off by length."""
        words, length = self.vocabulary, self.vocabulary.image_length
        drawn = self._open_image(ids[:prompt_length])
        out = []
        for position in range(prompt_length, len(ids)):
            kind = int(self._kind[ids[position]])
            if drawn is not None and kind == 1:
                drawn += 1
                continue
            if drawn is not None and (kind != 3 or drawn != length):
                out.append(f"an image of {drawn} codes, not {length}, ends at position {position}")
            if drawn is None and kind == 1:
                out.append(f"code {ids[position]} outside an image at position {position}")
            if drawn is None and kind == 3:
                out.append(f"end of image without an image at position {position}")
            drawn = 0 if ids[position] == words.boi else None
        return out
