"""The options of every verb, and the one parser that reads them.

HfArgumentParser's conventions, without its imports: `--config recipe.yaml` first, flags override it; `--model-path`
and `--model_path` are the same; an option that is on by default is switched off by `--no-NAME`. An unknown name, a
wrong type or a contradiction is an InputError that names the option.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from omni_r1.errors import InputError

T = TypeVar("T")
Mode = Literal["interleaved", "interleaved-text-image", "unrestricted", "text-only", "image-only"]
Dtype = Literal["float32", "bfloat16", "float16"]
SHIPPED = "miniature"  # the name under which the miniature's checkpoint and bench are found


def option(default: Any = dataclasses.MISSING, *, help: str, alias: str | None = None) -> Any:
    return field(default=default, metadata={"help": help, "alias": alias})


def at_least(options: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"must be at least {least}, not {value}", field=name)


@dataclass
class DemoOptions:
    """The miniature's bench, from questions to report."""

    output_dir: str = option("out/demo", help="folder for results, report and drawings")
    limit: int = option(400, help="number of bench questions")
    batch_size: int = option(100, help="questions answered together")
    control: bool = option(True, help="also run the control that was trained without drawings")
    seed: int = option(0, help="seed of sampling; greedy decoding does not use it")
    device: str = option("cpu", help="torch device")

    def __post_init__(self) -> None:
        at_least(self, 1, "limit", "batch_size")


@dataclass
class GenerateOptions:
    """Answer the questions of a JSONL file."""

    input: str = option(help="JSONL file of rows with `id`, `prompt` (with <image> marks) and `images` (paths)")
    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    output_dir: str = option("out/generate", help="folder for results, report and drawings")
    data_root: str | None = option(None, help="folder that image paths are relative to and must not leave; default: the input's")
    template: Literal["plain", "templated"] = option("plain", help="how the prompt is laid out")
    mode: Mode = option("interleaved", help="grammar of the response", alias="generation_mode")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    max_images: int | None = option(None, help="most images of a response")
    do_sample: bool = option(False, help="sample instead of taking the most likely token")
    temperature: float = option(1.0, help="sampling temperature")
    top_p: float = option(1.0, help="nucleus of sampling")
    top_k: int = option(0, help="most likely tokens sampled from; 0 for all")
    seed: int = option(0, help="seed; row i samples with seed + i")
    batch_size: int = option(16, help="rows answered together")
    device: str = option("cpu", help="torch device")
    dtype: Dtype = option("float32", help="precision of the language model")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_new_tokens", "batch_size")
        at_least(self, 0, "max_images", "top_k", "seed")
        if not self.do_sample and (self.temperature, self.top_p, self.top_k) != (1.0, 1.0, 0):
            raise InputError("temperature, top_p and top_k have no effect without it", field="do_sample")


@dataclass
class PesftOptions:
    """Fine-tune a checkpoint on trajectories with the perception alignment loss."""

    model_path: str = option(help="checkpoint folder or hub id to start from")
    train_data: str = option(help="JSONL file of trajectories")
    output_path: str = option(help="folder for the trained checkpoint, its log and its projection")
    perception_weight: float = option(1.0, help="lambda, weight of the perception loss; 0 trains on cross-entropy alone")
    alignment: Literal["next", "same"] = option("next", help="state matched with a code: the one that predicts it, or (as the original) the one that read it")
    learning_rate: float = option(1e-5, help="peak learning rate")
    lr_scheduler_type: str = option("linear", help="schedule of the learning rate, by transformers' name")
    warmup_ratio: float = option(0.0, help="share of the steps that warm up")
    weight_decay: float = option(0.0, help="AdamW's weight decay")
    adam_beta2: float = option(0.999, help="AdamW's second beta")
    max_grad_norm: float = option(1.0, help="norm gradients are clipped to")
    num_train_epochs: float = option(1.0, help="passes over the data")
    max_steps: int = option(-1, help="optimiser steps; overrides num_train_epochs if positive")
    per_device_train_batch_size: int = option(1, help="rows of a micro-batch")
    gradient_accumulation_steps: int = option(1, help="micro-batches of an optimiser step")
    max_length: int = option(5100, help="most tokens of a row")
    seed: int = option(42, help="seed of the projection and the order of rows")
    dtype: Dtype = option("float32", help="precision of the weights")
    logging_steps: int = option(10, help="steps between log rows")
    save_steps: int = option(0, help="steps between resumable checkpoints; 0 for none")
    resume_from_checkpoint: str | None = option(None, help="a resumable checkpoint: OUTPUT_PATH/steps/checkpoint-N")
    report_to: str = option("none", help="trackio, wandb or tensorboard; log.jsonl is always written")

    def __post_init__(self) -> None:
        at_least(self, 0, "perception_weight", "warmup_ratio", "weight_decay", "save_steps")
        at_least(self, 1, "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "logging_steps")
        if self.warmup_ratio >= 1:
            raise InputError(f"is a share of the steps, below 1, not {self.warmup_ratio}", field="warmup_ratio")


@dataclass
class BenchOptions:
    """Answer a benchmark's questions, grade them, and report figures with intervals."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    data: str = option(SHIPPED, help=f"parquet in Omni-Bench's schema, or '{SHIPPED}'")
    output_dir: str = option("out/bench", help="folder for results, report and drawings")
    control_path: str | None = option(None, help="checkpoint of a text-only control to answer the same questions")
    template: Literal["plain", "templated"] = option("plain", help="how the prompt is laid out")
    mode: Mode = option("interleaved", help="grammar of the response")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    limit: int | None = option(None, help="only so many questions, spread over the tasks")
    swap_pictures: bool = option(False, help="give each question the picture of another: how much do pictures count?")
    batch_size: int = option(100, help="questions answered together")
    seed: int = option(0, help="seed; greedy decoding does not use it")
    device: str = option("cpu", help="torch device")
    dtype: Dtype = option("float32", help="precision of the language model")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_new_tokens", "batch_size", "limit")


@dataclass
class ReportOptions:
    """Make one HTML page of a finished run."""

    run_dir: str = option(help="folder of the run, with its results.jsonl")


def _convert(name: str, value: Any, wanted: Any) -> Any:
    """A flag's string or a YAML value as the field's type."""
    origin, arms = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):  # X | None
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return _convert(name, value, next(arm for arm in arms if arm is not type(None)))
    if origin is Literal:
        if value in arms:
            return value
        raise InputError(f"must be one of {', '.join(arms)}, not {value!r}", field=name)
    if wanted is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool) or str(value).lower() in known:
            return value if isinstance(value, bool) else known[str(value).lower()]
    elif wanted is str:
        if isinstance(value, str):
            return value
    elif not isinstance(value, bool):
        try:
            number = wanted(value)
            if wanted is float or number == float(value):
                return number
        except (TypeError, ValueError):
            pass
    raise InputError(f"must be {wanted.__name__}, not {value!r}", field=name)


def _known(cls: type) -> dict[str, str]:
    """Accepted names, aliases included, and the field each stands for."""
    names = {item.name: item.name for item in dataclasses.fields(cls)}
    return names | {item.metadata["alias"]: item.name for item in dataclasses.fields(cls) if item.metadata.get("alias")}


def _unknown(name: str, cls: type, shown: str) -> InputError:
    close = difflib.get_close_matches(name, _known(cls), n=1)
    return InputError(f"unknown option {shown}" + (f", did you mean {close[0]}?" if close else ""))


def _read_recipe(path: str, cls: type) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read: {' '.join(str(error).split())}", file=path, field="config") from error
    if not isinstance(recipe, dict):
        raise InputError("a recipe is a mapping of option names to values", file=path)
    known = _known(cls)
    for name in recipe:
        if name not in known:
            raise InputError(str(_unknown(str(name), cls, str(name))), file=path)
    return {known[name]: value for name, value in recipe.items()}


def parse(cls: type[T], words: list[str]) -> T:
    """Read command-line words into an options dataclass. Raises InputError naming the option at fault."""
    known, wanted = _known(cls), typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise InputError(f"unexpected word {word!r}: options are --NAME VALUE")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name == "config":
            recipe = _read_recipe(value if equals else _value(rest, name), cls)
            continue
        negated = name.startswith("no_") and known.get(name[3:]) and wanted[known[name[3:]]] is bool
        if negated and not equals:
            given[known[name[3:]]] = False
            continue
        if name not in known:
            raise _unknown(name, cls, word.partition("=")[0])
        target = known[name]
        if not equals:
            flag = wanted[target] is bool and (not rest or rest[0].startswith("--"))
            value = "true" if flag else _value(rest, name)
        given[target] = value
    values = {name: _convert(name, value, wanted[name]) for name, value in (recipe | given).items()}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        if item.name not in values and item.default is dataclasses.MISSING:
            raise InputError("is required", field=item.name)
    return cls(**values)


def _value(rest: list[str], name: str) -> str:
    if not rest or rest[0].startswith("--"):
        raise InputError("needs a value", field=name)
    return rest.pop(0)


def describe(cls: type, verb: str) -> str:
    """The help text of a verb: every option, what it means, and its default."""
    lines = [f"omni-r1 {verb}: {(cls.__doc__ or '').strip()}", ""]
    options = [("--config RECIPE.yaml", "options from a file; flags override it", "")]
    for item in dataclasses.fields(cls):
        default = "required" if item.default is dataclasses.MISSING else f"default {item.default}"
        options.append((f"--{item.name.replace('_', '-')}", item.metadata["help"], default))
    width = max(len(name) for name, _, _ in options)
    lines += [f"  {name:<{width}}  {text}{f' ({default})' if default else ''}" for name, text, default in options]
    return "\n".join(lines)
