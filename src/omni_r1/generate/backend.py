"""What every backend takes and gives: prompts, sampling options, completions.

A backend is bound to one checkpoint. It samples under the `Grammar`, row by row independent of the batch, and
reports log-probs of what it sampled under the distribution it sampled from.
"""

import math
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from omni_r1.errors import InputError, OmniError
from omni_r1.grammar import ALIASES, MODES, Grammar, State
from omni_r1.trajectory import Text, Trajectory, extract_answer
from omni_r1.vocabulary import ParseError, Vocabulary

Prompt = str | Trajectory | Sequence[int]
Progress = Callable[[int, int], None]  # (rows done, tokens done), both counted over one `generate` call


class WorkerError(OmniError):
    """A process that answers has died or failed; the message names it."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. Greedy unless `do_sample`; `top_k` 0 and `top_p` 1 mean no cut.

    A response ends by itself or at its budget: `max_new_tokens` in all, `max_length` with the prompt; `max_images` and
    `max_text_tokens` bound its images and its words apart. None means no limit. `guidance_scale` g draws images from
    logits u + g (c - u), c given the prompt and u given nothing (classifier-free guidance); 1 is off. Raises InputError
    naming the field.
    """

    mode: str = "interleaved"
    max_new_tokens: int = 4096
    max_length: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_images: int | None = None
    max_text_tokens: int | None = None
    guidance_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "mode": (self.mode in (*MODES, *ALIASES), f"one of {', '.join(MODES)}"),
            "max_new_tokens": (_whole(self.max_new_tokens, 1), "a whole number from 1"),
            "do_sample": (isinstance(self.do_sample, bool), "true or false"),
            "temperature": (_real(self.temperature) and self.temperature > 0, "a number above 0"),
            "top_p": (_real(self.top_p) and 0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (_whole(self.top_k, 0), "a whole number from 0"),
            "max_length": (self.max_length is None or _whole(self.max_length, 2), "a whole number from 2"),
            "max_images": (self.max_images is None or _whole(self.max_images, 0), "a whole number from 0"),
            "max_text_tokens": (
                self.max_text_tokens is None or _whole(self.max_text_tokens, 0),
                "a whole number from 0",
            ),
            "guidance_scale": (_real(self.guidance_scale) and self.guidance_scale >= 0, "a number from 0"),
            "seed": (_whole(self.seed, 0), "a whole number from 0"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise InputError(f"must be {wanted}, not {getattr(self, name)!r}", field=name)
        if self.guidance_scale != 1 and self.mode in ("unrestricted", "text-only"):
            raise InputError(f"mode {self.mode} has no grammar of images to guide", field="guidance_scale")


def room_for_an_image(vocabulary: Vocabulary, sampling: SamplingOptions, *, begun: bool = False) -> None:
    """Raise InputError where answers may draw and the budget holds no image: they would all be words. `begun`: the
    prompt ends with the begin of one."""
    if sampling.mode == "text-only" or sampling.max_images == 0:
        return
    length = vocabulary.image_length + (1 if begun else 2)  # with its begin and end
    if sampling.max_new_tokens < length:
        message = f"{sampling.max_new_tokens} tokens cannot hold one image, which takes {length}"
        raise InputError(f"{message}; mode text-only asks for words alone", field="max_new_tokens")


@dataclass
class Completion:
    """One row's outcome.

    ids: prompt and response, EOS included if sampled; `prompt_length` of them were given.
    trajectory: what the ids say, None where they say nothing well-formed (mode unrestricted). An image that the
    prompt left open counts as the response's.
    logprobs: of each response token, under the processed distribution (temperature, grammar, top-k, top-p).
    stop: "end" (EOS) or "length"; None if there is an `error`, which then says why this row failed.
    """

    ids: list[int]
    prompt_length: int
    trajectory: Trajectory | None = None
    logprobs: list[float] = field(default_factory=list)
    stop: Literal["end", "length"] | None = None
    error: str | None = None

    @property
    def answer(self) -> str | None:
        """The final answer in what was said."""
        return extract_answer(self.trajectory.response_text) if self.trajectory else None


@dataclass(frozen=True)
class Request:
    """A prompt to complete once for each of `seeds`. `key` comes back with each completion, beside the seed's place."""

    key: int
    prompt: Prompt
    seeds: Sequence[int] = (0,)


class Backend(ABC):
    """Anything that completes prompts for one checkpoint."""

    vocabulary: Vocabulary

    @abstractmethod
    def stream(
        self, requests: Iterable[Request], options: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[tuple[int, int, Completion]]:
        """(key, place of the seed, completion) of every request and seed, as they finish.

        Requests are taken only as there is room for them. A bad prompt is a completion with `error`; the others go on.
        """

    def generate(
        self,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        *,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order. A bad prompt is a completion with `error`; the others go on.

        `seeds`: one per row; by default row i has `options.seed + i`.
        """
        if isinstance(prompts, str | Trajectory):
            raise InputError("is one prompt; a list of prompts is wanted", field="prompts")
        seeded = enumerate(zip(prompts, row_seeds(seeds, options, len(prompts)), strict=True))
        requests = [Request(key, prompt, (seed,)) for key, (prompt, seed) in seeded]
        done = {key: completion for key, _, completion in self.stream(requests, options, progress)}
        return [done[key] for key in range(len(requests))]


@dataclass
class Row:
    """A prompt that was admitted, and what it has become so far."""

    ids: list[int]
    prompt_length: int
    state: State
    seed: int
    key: int
    place: int
    budget: int
    logprobs: list[float] = field(default_factory=list)
    stop: Literal["end", "length"] | None = None
    error: str | None = None
    shadow: "Row | None" = None  # the same open image with nothing before it, for guidance

    @property
    def done(self) -> bool:
        return self.stop is not None or self.error is not None

    def completion(self, vocabulary: Vocabulary) -> Completion:
        trajectory = self._trajectory(vocabulary) if self.error is None else None
        return Completion(self.ids, self.prompt_length, trajectory, self.logprobs, self.stop, self.error)

    def _trajectory(self, vocabulary: Vocabulary) -> Trajectory | None:
        """An image that the prompt left open begins at the prompt's last BOI and is the response's."""
        given = self.ids[: self.prompt_length]
        splits = [self.prompt_length]
        if vocabulary.boi in given:
            splits.append(self.prompt_length - 1 - given[::-1].index(vocabulary.boi))
        for split in splits:
            try:
                return vocabulary.parse(self.ids, split)
            except ParseError:  # mode unrestricted, or a prompt that was no trajectory: the ids still tell
                continue
        return None


def admit(request: Request, vocabulary: Vocabulary, grammar: Grammar, options: SamplingOptions) -> list[Row]:
    """A row for each seed, with the grammar's state behind the prompt. A bad prompt's rows are done, by an error."""
    ids: list[int] = []
    budget, state, wrong = 0, State(0), None
    try:
        ids = prompt_ids(request.prompt, vocabulary)
        budget = options.max_new_tokens
        if options.max_length is not None:
            budget = min(budget, options.max_length - len(ids))
        if budget < 1:
            raise InputError(f"{options.max_length} is no more than the prompt's {len(ids)} tokens", field="max_length")
        state = grammar.start(ids, budget)
    except OmniError as error:
        ids, wrong = [], str(error)
    return [
        Row(list(ids), len(ids), state, seed, request.key, place, budget, error=wrong)
        for place, seed in enumerate(request.seeds)
    ]


def prompt_ids(prompt: Prompt, vocabulary: Vocabulary) -> list[int]:
    """Token ids of a prompt: text and trajectories rendered with BOS, ids checked against the vocabulary."""
    if isinstance(prompt, str):
        prompt = Trajectory(prompt=(Text(prompt),))
    if isinstance(prompt, Trajectory):
        return vocabulary.render(prompt).ids
    for position, token in enumerate(prompt):
        if not _whole(token, 0) or token >= vocabulary.size:
            raise InputError(f"{token!r} at position {position} is no token id of this checkpoint", field="prompt")
    if not prompt:
        raise InputError("is empty", field="prompt")
    return list(prompt)


def row_seeds(seeds: Sequence[int] | None, options: SamplingOptions, rows: int) -> Sequence[int]:
    """`seeds`, checked, or the default ones."""
    if seeds is None:
        return range(options.seed, options.seed + rows)
    if len(seeds) != rows:
        raise InputError(f"{len(seeds)} seeds for {rows} prompts", field="seeds")
    return seeds


def how_it_ended(code: int | None) -> str:
    """A process's exit code in words: SIGKILL, or exit code 1."""
    killed_by = next((number.name for number in signal.Signals if -number == code), None)
    return killed_by or f"exit code {code}"


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
