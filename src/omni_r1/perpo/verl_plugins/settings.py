"""What a response may be, told once in verl's config and obeyed by sampler and trainer alike.

It stands in `actor_rollout_ref.model.override_config.grammar`, the one place of the config that verl hands to rollout
and trainer both and reads nothing from, as long as `override_config.model_config` is there too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from omni_r1.errors import InputError
from omni_r1.generate.vllm_plugin import NAME
from omni_r1.grammar import ALIASES, MODES, Grammar
from omni_r1.model import checkpoint
from omni_r1.vocabulary import Vocabulary

PLACE = "actor_rollout_ref.model.override_config.grammar"


@dataclass(frozen=True)
class GrammarSettings:
    """The settings of `Grammar`, and `budget`, the most tokens of a response."""

    budget: int
    mode: str = "interleaved"
    max_images: int | None = None
    max_text_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in (*MODES, *ALIASES):
            raise InputError(f"no mode {self.mode!r}; the modes are {', '.join(MODES)}", field=f"{PLACE}.mode")
        for name, least in (("budget", 1), ("max_images", 0), ("max_text_tokens", 0)):
            value = getattr(self, name)
            if value is None and name != "budget":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"must be a whole number from {least}, not {value!r}", field=f"{PLACE}.{name}")

    @classmethod
    def of(cls, override_config: Mapping[str, Any]) -> "GrammarSettings":
        """From verl's `override_config`. Raises InputError naming the key at fault."""
        given = override_config.get("grammar")
        if not isinstance(given, Mapping):
            raise InputError("is not set: sampler and trainer would not know the grammar", field=PLACE)
        unknown = [str(name) for name in given if name not in cls.__dataclass_fields__]
        if unknown:
            raise InputError(
                f"no setting of the grammar: they are {', '.join(cls.__dataclass_fields__)}", field=unknown[0]
            )
        if "budget" not in given:
            raise InputError("is not set", field=f"{PLACE}.budget")
        return cls(**given)

    def grammar(self, vocabulary: Vocabulary) -> Grammar:
        return Grammar(vocabulary, self.mode, self.max_images, self.max_text_tokens)

    @property
    def extra_args(self) -> dict[str, Any]:
        """For `SamplingParams.extra_args`, as the logits processor in vLLM reads it."""
        return {NAME: asdict(self)}


@cache
def vocabulary_of(path: str, tokenizer_path: str | None = None) -> Vocabulary:
    """The vocabulary of a checkpoint; read once in a process, which may serve thousands of requests."""
    folder = checkpoint.locate(path)
    return Vocabulary.from_checkpoint(folder, folder if tokenizer_path is None else checkpoint.locate(tokenizer_path))
