"""Which token may follow which: the one state machine behind sampling, log-probs and the format reward.

An image is BOI, S codes, EOI, so a mask depends on little: inside an image or not, and whether another image still
fits. `Grammar.sets` holds the few distinct masks, and a state only says which of them is next. The rules of each mode
are the original's (checkpoint contract, "generation modes"), and but for `unrestricted` all modes bar BOS, padding and
the placeholder `<image>` as well, so that whatever is sampled parses.
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
FREE, CODES, END_OF_IMAGE, WITH_IMAGE, WITHOUT_IMAGE, FIRST, ENDED, IMAGE_OR_END, END = range(9)
TEXT, CODE, BOI, EOI = range(4)  # kinds of token


class GrammarError(OmniError):
    """A mode that does not exist, a prompt that cannot be continued, or a token that is not allowed."""


@dataclass(frozen=True)
class State:
    """Where a sequence stands: tokens it may still have, codes drawn of an open image (None outside), images begun,
    tokens of text said.

    `first` is true before the first new token, `ended` after EOS.
    """

    remaining: int
    drawn: int | None = None
    images: int = 0
    first: bool = True
    ended: bool = False
    texts: int = 0


class Grammar:
    """The rules of one mode for one vocabulary.

    `max_images` bounds the images of the response, `max_text_tokens` its tokens outside images, EOS not counted: once
    they are used up, only an image or the end may follow.

    sets (9, V) bool: the distinct sets of allowed tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        mode: str = "interleaved",
        max_images: int | None = None,
        max_text_tokens: int | None = None,
    ) -> None:
        mode = ALIASES.get(mode, mode)
        if mode not in MODES:
            raise GrammarError(f"no mode {mode!r}; the modes are {', '.join(MODES)}")
        self.vocabulary, self.mode = vocabulary, mode
        self.max_images, self.max_text_tokens = max_images, max_text_tokens
        self._codes = frozenset(vocabulary.codes.tolist())
        self.sets = self._sets()
        kinds = torch.full((vocabulary.size,), TEXT, dtype=torch.uint8)
        kinds[vocabulary.codes], kinds[vocabulary.boi], kinds[vocabulary.eoi] = CODE, BOI, EOI
        self._kinds = kinds.numpy().tobytes()
        self._rows = [row.numpy().tobytes() for row in self.sets]  # bytes: one token is looked up at a time

    def _sets(self) -> Tensor:
        words = self.vocabulary
        sets = torch.zeros(9, words.size, dtype=torch.bool)
        sets[FREE] = True
        sets[ENDED, words.pad] = True  # a finished row in a batch
        sets[CODES, words.codes] = True
        sets[END_OF_IMAGE, words.eoi] = True
        sets[IMAGE_OR_END, [words.boi, words.eos]] = True
        sets[END, words.eos] = True
        if self.mode == "image-only":
            sets[WITHOUT_IMAGE, words.eos] = True
            sets[WITH_IMAGE, [words.boi, words.eos]] = True
            sets[FIRST, words.boi] = True  # no empty response
        else:
            sets[[WITHOUT_IMAGE, WITH_IMAGE, FIRST]] = True
            meaningless = {words.bos, words.pad, words.image} - {words.eos}  # a response with one would not parse
            for barred in (words.codes, words.eoi, sorted(meaningless)):
                sets[WITHOUT_IMAGE, barred] = sets[WITH_IMAGE, barred] = sets[FIRST, barred] = False
            sets[WITHOUT_IMAGE, words.boi] = False
        return sets

    def start(self, prompt_ids: Sequence[int], budget: int) -> State:
        """The state behind a prompt, with `budget` new tokens allowed. A prompt may leave an image open: it is the
        response's, and counts as one of its images.

        Raises GrammarError where the open image is broken or does not fit the budget.
        """
        if self.mode in ("unrestricted", "text-only"):
            return State(budget)
        drawn = self._open_image(prompt_ids)
        state = State(budget, drawn, images=int(drawn is not None))
        if state.drawn is not None:
            missing = self.vocabulary.image_length - state.drawn + 1
            if missing > budget:
                raise GrammarError(f"the image open in the prompt needs {missing} tokens, the budget is {budget}")
        elif self.mode == "image-only" and self.allowed(state) == WITHOUT_IMAGE:
            raise GrammarError(f"no image may begin in a budget of {budget} tokens, and nothing else may")
        return state

    def _open_image(self, ids: Sequence[int]) -> int | None:
        """Codes of the image open at the end, None where there is none. The window is the original's: S + 1 back."""
        window = ids[-self.vocabulary.image_length - 1 :]
        for back, token in enumerate(reversed(window)):
            if token != self.vocabulary.boi:
                continue
            if not all(code in self._codes for code in window[len(window) - back :]):
                raise GrammarError(f"a broken image at position {len(ids) - back - 1} ends the prompt")
            return back
        return None

    def allowed(self, state: State) -> int:
        """Index into `sets` of what may come next."""
        if self.mode == "unrestricted":
            return FREE
        if state.ended:
            return ENDED
        speechless = self.max_text_tokens is not None and state.texts >= self.max_text_tokens
        if self.mode == "text-only":
            return END if speechless else WITHOUT_IMAGE
        if state.drawn is not None:
            return CODES if state.drawn < self.vocabulary.image_length else END_OF_IMAGE
        fits = state.remaining >= self.vocabulary.image_length + 2
        if not fits or (self.max_images is not None and state.images >= self.max_images):
            return END if speechless else WITHOUT_IMAGE
        if speechless:
            return IMAGE_OR_END
        return FIRST if state.first and self.mode == "image-only" else WITH_IMAGE

    def advance(self, state: State, token: int) -> State:
        """The state after `token`. Raises GrammarError where it is not allowed."""
        if not (0 <= token < len(self._kinds) and self._rows[self.allowed(state)][token]):
            raise GrammarError(f"token {token} is not allowed here in mode {self.mode}")
        remaining = state.remaining - 1
        if token == self.vocabulary.boi:
            return State(remaining, 0, state.images + 1, False, False, state.texts)
        if state.drawn is not None and self._kinds[token] == CODE:
            return State(remaining, state.drawn + 1, state.images, False, False, state.texts)
        ended = state.ended or token == self.vocabulary.eos
        said = state.texts + (self._kinds[token] == TEXT and not ended)
        return State(remaining, None, state.images, False, ended, said)

    def mask(self, logits: Tensor, states: Sequence[State]) -> Tensor:
        """Logits (B, V) with -inf where the row's state does not allow the token."""
        if self.mode == "unrestricted":
            return logits
        self.sets = self.sets.to(logits.device)  # moved once, not every step
        index = torch.tensor([self.allowed(state) for state in states], device=logits.device)
        return logits.masked_fill(~self.sets[index], -torch.inf)

    def indices(self, ids: Sequence[int], prompt_length: int, budget: int) -> Tensor:
        """(n,) index into `sets` at each of the n response positions: what the sampler could choose from there.

        Raises GrammarError with the position where the response is not legal.
        """
        state = self.start(ids[:prompt_length], budget)
        out = []
        for position in range(prompt_length, len(ids)):
            out.append(self.allowed(state))
            try:
                state = self.advance(state, ids[position])
            except GrammarError as error:
                raise GrammarError(f"position {position}: {error}") from None
        return torch.tensor(out, dtype=torch.long)

    def violations(self, ids: Sequence[int], prompt_length: int) -> list[str]:
        """What is broken in the images of a response, in words; empty if nothing is. The same in every mode.

        An image that the prompt leaves open is the response's to finish. Ids must be of this vocabulary.
        """
        length = self.vocabulary.image_length
        drawn: int | None = None
        out = []
        for position, token in enumerate(ids):
            kind, fault = self._kinds[token], None
            if drawn is not None and kind == CODE:
                drawn += 1
                continue
            if drawn is not None and (kind != EOI or drawn != length):
                fault = f"an image of {drawn} codes, not {length}, ends at position {position}"
            elif drawn is None and kind in (CODE, EOI):
                fault = f"token {token} outside an image at position {position}"
            if fault and position >= prompt_length:
                out.append(fault)
            drawn = 0 if kind == BOI else None
        if drawn is not None:
            out.append(f"an image of {drawn} codes is cut off")
        return out


def response_images(ids: Sequence[int], prompt_length: int, vocabulary: Vocabulary) -> list[tuple[int, bool]]:
    """Each image of a response, one that the prompt left open included: where its BOI stands, and whether it is whole,
    S codes and EOI. Any ids will do."""
    codes = set(vocabulary.codes.tolist())
    start = prompt_length
    while start > 0 and ids[start - 1] in codes:
        start -= 1
    start = start - 1 if start > 0 and ids[start - 1] == vocabulary.boi else prompt_length
    found = []
    for position in range(start, len(ids)):
        if ids[position] == vocabulary.boi:
            image = ids[position + 1 : position + 2 + vocabulary.image_length]
            closed = len(image) == vocabulary.image_length + 1 and image[-1] == vocabulary.eoi
            found.append((position, closed and codes.issuperset(image[:-1])))
    return found


def images_whole(ids: Sequence[int], prompt_length: int, vocabulary: Vocabulary) -> list[bool]:
    """For each image of a response, one that the prompt left open included: whether it is S codes and EOI."""
    return [whole for _, whole in response_images(ids, prompt_length, vocabulary)]
