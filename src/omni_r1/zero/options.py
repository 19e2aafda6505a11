"""The options of `omni-r1 bootstrap`. As `omni_r1.options` this imports nothing heavy."""

import sys
from dataclasses import dataclass
from typing import Literal

from omni_r1.errors import InputError
from omni_r1.option_parser import option
from omni_r1.options import SHIPPED, Dtype, Engine, GenerateOptions, Template, at_least

SHARE = (0.0, 1.0, "a share, from 0 to 1")
DIFFERENCE = (-sys.float_info.max, sys.float_info.max, "a number of nats")
RANGES = {
    "max_flat": SHARE,
    "min_perception": SHARE,
    "min_changed": SHARE,
    "min_votes": SHARE,
    "min_confidence": (-sys.float_info.max, 0.0, "a mean log-prob, which is never above 0"),
    "min_agreement": DIFFERENCE,
    "min_answer_gain": DIFFERENCE,
}


@dataclass
class BootstrapOptions:
    """Draw the steps of chains of thought that are text alone, and write them as shards for training (Omni-R1-Zero)."""

    input: str = option(help="JSONL, parquet, a folder of either, or the name of a data set of the hub")
    format: Literal["m3cot", "jsonl"] = option(help="schema of its rows (docs/data.md); rationales are text alone")
    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}', that draws")
    output_path: str = option(help="folder for the shards; started again there, an interrupted run goes on")
    configs: str | None = option(None, help="configs to read, or files of a folder, with commas between; none for all")
    split: str = option("train", help="split to read of parquet and of the hub")
    revision: str | None = option(None, help="commit, tag or branch of a data set of the hub; none is its newest")
    limit: int | None = option(None, help="only the first so many rows of each config or file")
    max_rows: int | None = option(None, help="end when so many rows are written; rows behind them are not read")
    template: Template = option("plain", help="how a row is laid out that is written")
    draw_as: Literal["trace", "caption"] = option(
        "trace", help="what a step is drawn below: the row as it is written, or the question's pictures and captions"
    )
    max_steps: int = option(8, help="most steps of a row; of more, neighbours are put together")
    reaches_answer: bool | None = option(
        None, help="drop rows whose rationale does not come to the gold answer; none is on for m3cot, off for jsonl"
    )
    max_length: int = option(5100, help="most tokens of a row; a longer one is a reject")
    candidates: int = option(1, help="drawings of a step, of which one is taken")
    choose_by: Literal["first", "confidence", "votes", "agreement", "answer"] = option(
        "votes", help="which drawing is taken"
    )
    do_sample: bool = option(False, help="sample drawings instead of taking the most likely codes")
    temperature: float = option(1.0, help="sampling temperature")
    top_p: float = option(1.0, help="nucleus of sampling")
    top_k: int = option(0, help="most likely codes sampled from; 0 for all")
    guidance_scale: float = option(1.0, help="classifier-free guidance of drawings, transformers only; 1 is off")
    seed: int = option(0, help="seed; every drawing has its own, by row and step; and of the lead phrases")
    max_flat: float | None = option(None, help="drop drawings of which one code fills more than this share")
    min_perception: float | None = option(None, help="drop drawings whose calibrated perception score is below this")
    band: Literal["checkpoint", "questions"] = option(
        "checkpoint", help="what min_perception is calibrated on: the checkpoint's own file, or the questions' pictures"
    )
    min_changed: float | None = option(
        None, help="drop drawings that differ in less than this share of codes from a picture or drawing before them"
    )
    min_confidence: float | None = option(
        None, help="drop drawings of a mean log-prob below this, at most 0, in nats a code"
    )
    min_votes: float | None = option(None, help="drop drawings that are a smaller share of their step's candidates")
    min_agreement: float | None = option(
        None, help="drop drawings that their words make less likely than this, in nats a code more than without words"
    )
    min_answer_gain: float | None = option(
        None, help="drop last drawings that make the gold answer less likely than this, in nats more than no drawings"
    )
    max_rejects: float | None = option(
        None, help="most rows that may be rejected, below 1 as a share; with more the folder is not finished"
    )
    chunk_size: int = option(128, help="rows drawn together, and of a file; what a run that is killed loses at most")
    backend: Engine = option("transformers", help="what runs the language model; vllm is an optional extra")
    tensor_parallel_size: int = option(1, help="GPUs that share the language model, vllm only")
    batch_size: int = option(64, help="drawings made together on a device")
    compile: bool = option(False, help="compile the decoding step, for GPUs, transformers only")
    device: str = option("cpu", help="torch device; several with commas between, a process each")
    dtype: Dtype = option("float32", help="precision of the language model")
    cache_path: str | None = option(
        None, help="file that keeps the codes of pictures, for later runs too; none is OUTPUT_PATH/codes.sqlite"
    )

    def __post_init__(self) -> None:
        at_least(self, 1, "limit", "max_rows", "max_steps", "max_length", "candidates", "chunk_size")
        at_least(self, 0, "seed", "max_rejects", "top_k", "guidance_scale")
        if not all(self.config_names):
            raise InputError(f"a name is missing in {self.configs!r}", field="configs")
        for name, (least, most, what) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # nan is in no range
                raise InputError(f"is {what}, not {value}", field=name)
        if self.candidates > 1 and not self.do_sample:
            raise InputError("needs do_sample: greedy decoding gives one drawing every time", field="candidates")
        if self.asking_for_answers and self.draw_as == "caption":
            name = "choose_by" if self.choose_by == "answer" else "min_answer_gain"
            raise InputError("asks a model that knows traces for the answer: draw_as trace", field=name)
        self.generating()  # checks what is of sampling, engine and device

    @property
    def config_names(self) -> list[str]:
        return [] if self.configs is None else [name.strip() for name in self.configs.split(",")]

    @property
    def asking_for_words(self) -> bool:
        """Whether the language model is asked how much a drawing and its words agree."""
        return self.choose_by == "agreement" or self.min_agreement is not None

    @property
    def asking_for_answers(self) -> bool:
        """Whether it is asked how much likelier drawings make the gold answer."""
        return self.choose_by == "answer" or self.min_answer_gain is not None

    def generating(self) -> GenerateOptions:
        """The options of `generate` that open the same engine."""
        sampling = ("do_sample", "temperature", "top_p", "top_k", "guidance_scale", "seed")
        engine = ("backend", "tensor_parallel_size", "batch_size", "compile", "device", "dtype")
        shared = ("input", "model_path", *sampling, *engine)
        return GenerateOptions(mode="image-only", **{name: getattr(self, name) for name in shared})
