"""The grammar inside vLLM: the logits processor of its older runner, and what that of the newer one shares with it.

A request says in `extra_args["omni_r1"]` what its response may be: `mode`, `max_images`, `max_text_tokens` and
`budget`, the number of tokens it may have. Requests without it are left alone.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorV1
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from omni_r1.generate.vllm_plugin import NAME
from omni_r1.grammar import CODES, END, FREE, Grammar, GrammarError
from omni_r1.vocabulary import Vocabulary

KEYS = ("mode", "max_images", "max_text_tokens")


class Grammars:
    """The grammars asked for so far, with their masks on the device."""

    def __init__(self, config: VllmConfig, device: torch.device) -> None:
        self.vocabulary = Vocabulary.from_checkpoint(*config.additional_config[NAME])
        first, last = int(self.vocabulary.codes.min()), int(self.vocabulary.codes.max())
        self.codes = slice(first, last + 1) if last - first + 1 == len(self.vocabulary.codes) else None
        self.device = device
        self._made: dict[tuple, tuple[Grammar, Tensor]] = {}

    def get(self, settings: tuple) -> tuple[Grammar, Tensor]:
        """The grammar and what its sets bar, (9, V) bool."""
        if settings not in self._made:
            grammar = Grammar(self.vocabulary, *settings)
            self._made[settings] = grammar, ~grammar.sets.to(self.device)
        return self._made[settings]


class Follower:
    """Where one request stands. A token the grammar forbids (NaN logits) ends it: the backend then tells why."""

    def __init__(self, grammars: "Grammars", settings: dict[str, Any], prompt: Sequence[int]) -> None:
        self.grammar, self.barred = grammars.get(tuple(settings[key] for key in KEYS))
        self.state = self.grammar.start(prompt, settings["budget"])
        self.prompt_length, self.seen, self.broken = len(prompt), 0, False

    def follow(self, tokens: Sequence[int]) -> None:
        """Take in the next tokens of the response."""
        self.seen += len(tokens)
        for token in tokens:
            if self.broken or self.state.ended:
                return
            try:
                self.state = self.grammar.advance(self.state, token)
            except GrammarError:
                self.broken = True

    @property
    def index(self) -> int:
        """The set of the grammar that may come next."""
        return END if self.broken else self.grammar.allowed(self.state)


def settings_of(params: SamplingParams) -> dict[str, Any] | None:
    return (params.extra_args or {}).get(NAME)


def check(params: SamplingParams) -> None:
    """Raise ValueError for settings that are no settings; vLLM refuses the request with it."""
    settings = settings_of(params)
    if settings is not None and (not isinstance(settings, dict) or set(settings) != {*KEYS, "budget"}):
        raise ValueError(f"extra_args[{NAME!r}] must have {', '.join((*KEYS, 'budget'))}")
    if params.prompt_logprobs is not None:  # their logits pass through the same head, whose rows are then others
        raise ValueError("log-probs of the prompt cannot be had beside the grammar")


def mask(logits: Tensor, followers: dict[int, Follower]) -> Tensor:
    """`logits` (B, V) with -inf, in place, where the follower of a row bars a token."""
    groups: dict[int, list[int]] = {}
    for row, one in followers.items():
        groups.setdefault(id(one.grammar), []).append(row)
    for rows in groups.values():
        indices = [FREE] * len(logits)
        for row in rows:
            indices[row] = followers[row].index
        barred = followers[rows[0]].barred[torch.tensor(indices, device=logits.device)]
        logits.masked_fill_(barred, -torch.inf)
    return logits


class GrammarV1(ProcessorV1):
    """For the runner that keeps token ids on the host: CPUs, and GPUs with VLLM_USE_V2_MODEL_RUNNER=0."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.grammars = Grammars(vllm_config, device)
        self.requests: dict[int, tuple[Follower, list[int]]] = {}
        RUNNING[vllm_config.instance_id] = self

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        def enter(params: SamplingParams, prompt: list[int] | None, said: list[int]):
            settings = settings_of(params)
            # `said` grows as the request does; it is not empty where a preempted request comes back.
            return None if settings is None else (Follower(self.grammars, settings, prompt or ()), said)

        process_dict_updates(self.requests, batch_update, enter)

    def apply(self, logits: Tensor) -> Tensor:
        self._follow()
        return mask(logits, {row: one for row, (one, _) in self.requests.items()})

    def _follow(self) -> None:
        for one, said in self.requests.values():
            one.follow(said[one.seen :])

    def drawing(self) -> list[int]:
        """Rows that can only draw a code next, as far as is known before the logits are."""
        if any(UNKNOWN in said[one.seen :] for one, said in self.requests.values()):
            return []
        self._follow()
        return sorted(row for row, (one, _) in self.requests.items() if one.index == CODES)


RUNNING: WeakValueDictionary[str, GrammarV1] = WeakValueDictionary()  # by the id of their engine
UNKNOWN = -1  # stands in `said` for a token that is still on its way from the device


def drawing(engine: str) -> tuple[list[int], slice | None]:
    """Rows of the next logits that can only be codes, and the codes' ids where those are a range."""
    processor = RUNNING.get(engine)
    return (processor.drawing(), processor.grammars.codes) if processor else ([], None)
