"""The options of every verb. A wrong value or a contradiction is an InputError that names the option.

`option_parser` reads them. This module imports nothing heavy, so `--help` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from omni_r1.answering_options import (
    SHIPPED,
    AnsweringOptions,
    Dtype,
    Engine,
    Mode,
    Quantize,
    Template,
    at_least,
)
from omni_r1.errors import InputError
from omni_r1.option_parser import option
from omni_r1.run_record import OWN

DataFormat = Literal["zebra-cot", "original", "m3cot", "jsonl"]
Tracker = Literal["none", "trackio", "wandb", "tensorboard", "mlflow"]
Suite = Literal[
    "omni-bench", "miniature", "vstar", "arxivqa", "chartqa", "geometry3k", "mathvista", "vic-bench"
]  # fmt: skip
Profile = Literal["strict", "judge", "choice", "relaxed", "number", "mathvista", "sequence"]
Look = Literal["band", "smoothness", "hidden", "none"]
CrossEntropy = Literal["full", "grammar"]
Checkpointing = Literal["selective", "full", "none"]


def check_hub(options: Any) -> None:
    if options.push_to_hub is not None and not all(options.push_to_hub.partition("/")):
        raise InputError(f"must be USER/NAME, not {options.push_to_hub!r}", field="push_to_hub")
    if options.hub_private and options.push_to_hub is None:
        raise InputError("needs push_to_hub", field="hub_private")


@dataclass
class DemoOptions:
    """Run the miniature's bench on its own model, from questions to report."""

    output_dir: str = option(
        "out/demo", help="folder for results, drawings and report; an earlier run there is replaced"
    )
    limit: int = option(400, help="number of bench questions")
    batch_size: int = option(50, help="questions answered together")
    control: bool = option(True, help="also run the control that was trained without drawings")
    device: str = option("cpu", help="torch device")

    def __post_init__(self) -> None:
        at_least(self, 1, "limit", "batch_size")


@dataclass
class GenerateOptions(AnsweringOptions):
    """Answer the questions of a JSONL file, in text and drawings."""

    input: str = option(help="JSONL of rows with `id`, `prompt` (with <image> marks) and `images`; or a folder of them")
    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    output_dir: str = option("out/generate", help="folder for the answers, a folder in it for each input file")
    data_root: str | None = option(None, help="folder no image path may leave; none is the input's folder")
    allow_network: bool = option(False, help="fetch images with http(s) addresses")
    image_placeholder_id: int | None = option(
        None, help="token id of <image>; only to make sure: the checkpoint has it"
    )
    strict_decode: bool = option(
        True, help="leave out broken images; --no-strict-decode cuts or fills them, mode unrestricted only"
    )
    priority_terms: str | None = option(None, help="words, with commas between; rows that have one are answered first")
    verbose: bool = option(False, help="print every answer as it is finished")


@dataclass
class PesftOptions:
    """Fine-tune a checkpoint on trajectories with the perception alignment loss."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}', to start from")
    output_path: str = option(help="folder for the trained checkpoint, its log and its projection")
    train_data: str | None = option(None, help="folder made by tokenize, or JSONL file of trajectories (docs/data.md)")
    json_dir: str | None = option(None, help="instead: JSONL, or a folder of it, as the original repository trains on")
    mode: Template | None = option(
        None, help="json_dir: how a row is laid out, none is plain; train_data: how its shards must be, none is any"
    )
    plain_include_rationale: bool = option(
        True, help="json_dir, mode plain: the reasoning, drawings included, is part of the response"
    )
    perception_weight: float = option(1.0, help="lambda, weight of the perception loss; 0 is cross-entropy alone")
    alignment: Literal["next", "same"] = option(
        "next",
        help="state matched with a code: the one that predicts it or, as the original, the one that read it",
    )
    learning_rate: float = option(1e-5, help="peak learning rate")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = option(
        "linear", help="schedule of the learning rate"
    )
    warmup_ratio: float = option(0.0, help="share of the steps that warm up")
    weight_decay: float = option(0.0, help="AdamW's weight decay")
    adam_beta2: float = option(0.999, help="AdamW's second beta")
    max_grad_norm: float = option(1.0, help="norm gradients are clipped to")
    num_train_epochs: float = option(1.0, help="passes over the data")
    max_steps: int = option(-1, help="optimiser steps; overrides num_train_epochs if positive")
    per_device_train_batch_size: int = option(1, help="rows of a micro-batch")
    gradient_accumulation_steps: int = option(1, help="micro-batches of an optimiser step")
    max_length: int = option(5100, help="most tokens of a row; a longer row is an error")
    packing: bool = option(True, help="put the rows of a micro-batch end to end instead of padding them")
    ce: CrossEntropy = option(
        "full",
        help="softmax of the cross-entropy: over the whole vocabulary, or at each token over what the grammar allows",
    )
    seed: int = option(42, help="seed of the projection and the order of rows")
    dtype: Dtype = option("float32", help="precision of the weights")
    bf16: bool = option(False, help="compute in bf16, whatever the weights' precision")
    gradient_checkpointing: Checkpointing = option(
        "selective",
        help="what a layer keeps for its backward pass: its products and attention, its input only, or everything",
    )
    lora_rank: int = option(0, help="train a low-rank adapter of this rank, merged at the end; 0 trains all weights")
    lora_alpha: int = option(16, help="the adapter's scale is lora_alpha / lora_rank")
    quantize: Quantize | None = option(None, help="bits of the frozen weights under the adapter; needs extra lowmem")
    deepspeed_config_json: str | None = option(
        None, help="DeepSpeed's configuration, to spread training over processes: configs/engines has ZeRO 2 and 3"
    )
    fsdp_config: str | None = option(None, help="FSDP's configuration, likewise: configs/engines has one of FSDP2")
    use_cpu: bool = option(False, help="leave GPUs alone")
    logging_steps: int = option(10, help="steps between log rows")
    sample_steps: int = option(0, help="steps between drawings of the first rows, in OUTPUT_PATH/samples; 0 for none")
    save_steps: int = option(0, help="steps between resumable checkpoints; 0 for none")
    resume_from_checkpoint: str | None = option(
        None, help="a resumable checkpoint, or 'last': the newest of OUTPUT_PATH, from the start if there is none"
    )
    report_to: Tracker = option("none", help="experiment tracker; log.jsonl is always written")
    push_to_hub: str | None = option(None, help="repository of the hub, USER/NAME, that the result is uploaded to")
    hub_private: bool = option(False, help="that repository is private; an old one must be so already")

    def __post_init__(self) -> None:
        at_least(self, 0, "perception_weight", "learning_rate", "warmup_ratio", "weight_decay", "adam_beta2")
        at_least(self, 0, "max_grad_norm", "num_train_epochs", "save_steps", "sample_steps", "seed", "lora_rank")
        at_least(self, 1, "per_device_train_batch_size", "gradient_accumulation_steps")
        at_least(self, 1, "max_length", "logging_steps", "lora_alpha")
        if self.seed >= 2**32:
            raise InputError(f"must be below 2^32, not {self.seed}", field="seed")
        if (self.train_data is None) == (self.json_dir is None):
            raise InputError("train_data or json_dir is required, and not both", field="train_data")
        if self.fsdp_config is not None and self.deepspeed_config_json is not None:
            raise InputError("there is a deepspeed_config_json too; one of them", field="fsdp_config")
        for name in ("fsdp_config", "deepspeed_config_json"):
            if getattr(self, name) is not None and not Path(getattr(self, name)).is_file():
                raise InputError("is no file", file=getattr(self, name), field=name)
        if self.fsdp_config is not None and self.dtype not in ("float32", "fp32"):
            raise InputError("FSDP shards fp32 weights; bf16 computes with them in bf16", field="dtype")
        check_hub(self)
        if self.quantize is not None and (self.fsdp_config or self.deepspeed_config_json):
            raise InputError("no engine spreads quantized weights: leave it to torchrun", field="quantize")
        if self.quantize is not None and not self.lora_rank:
            raise InputError("quantized weights cannot be trained, but a lora_rank on top of them", field="quantize")
        if self.max_steps < 1 and self.max_steps != -1:
            raise InputError(f"must be at least 1, or -1 for none, not {self.max_steps}", field="max_steps")
        if self.warmup_ratio and self.lr_scheduler_type == "constant":
            raise InputError("schedule constant has no warm-up; constant_with_warmup has", field="warmup_ratio")
        for name in ("warmup_ratio", "adam_beta2"):
            if getattr(self, name) >= 1:
                raise InputError(f"must be below 1, not {getattr(self, name)}", field=name)


@dataclass
class PerpoOptions:
    """Reinforce a checkpoint on its own answers: group-relative policy optimisation with the perception reward."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}', to start from; also the reference")
    output_path: str = option(help="folder for the trained checkpoint, its log and samples of what it answered")
    train_data: str = option(
        help="folder made by tokenize, or JSONL of trajectories; only prompts and final answers are used"
    )
    max_steps: int = option(help="steps: each samples, scores and learns from train_batch_size questions")
    profile: Literal["default", "paper", "original"] = option("default", help="reward (docs/reward.md)")
    accuracy_weight: float | None = option(None, help="weight of a right answer; none is the profile's, as below")
    format_weight: float | None = option(None, help="weight of a well-formed response")
    perception_weight: float | None = option(None, help="weight of the perception reward")
    look: Look | None = option(None, help="what the perception reward is made of")
    tau: float | None = option(None, help="scale of the perception reward")
    aggregate: Literal["mean", "min", "max", "median"] | None = option(None, help="over the images of a response")
    missing_images: Literal["zero", "rescale"] | None = option(
        None, help="a response without an image: no perception reward, or larger weights of the others"
    )
    only_right: bool | None = option(None, help="the perception reward counts with a right answer only")
    train_batch_size: int = option(64, help="questions learned from in a step")
    group_size: int = option(16, help="responses to a question")
    gen_batch_size: int = option(192, help="questions sampled at a time, until enough groups are mixed")
    max_gen_batches: int = option(5, help="most times that more questions are sampled for a step")
    filter_metric: Literal["accuracy", "reward", "none"] = option(
        "accuracy", help="what must differ within a group to learn from it"
    )
    mini_batch_size: int = option(16, help="questions of an update")
    per_device_train_batch_size: int = option(4, help="responses of a micro-batch")
    learning_rate: float = option(1e-7, help="peak learning rate")
    lr_scheduler_type: Literal["constant_with_warmup", "linear", "cosine"] = option(
        "constant_with_warmup", help="schedule of the learning rate; the first is the paper's engine's"
    )
    warmup_steps: int = option(5, help="updates that warm up")
    weight_decay: float = option(0.1, help="AdamW's weight decay")
    adam_beta2: float = option(0.999, help="AdamW's second beta")
    max_grad_norm: float = option(1.0, help="norm gradients are clipped to")
    clip_low: float = option(0.2, help="a ratio of policies counts down to 1 less this")
    clip_high: float = option(0.28, help="and up to 1 and this")
    loss_aggregation: Literal["seq-mean-token-mean", "token-mean"] = option(
        "seq-mean-token-mean", help="every response weighs the same, or every token"
    )
    image_weight: float = option(1.0, help="weight of an image's code in every mean of the loss; a text token's is 1")
    kl_coef: float = option(0.003, help="weight of the divergence from the reference; 0 keeps no reference")
    kl_estimator: Literal["k1", "k3"] = option("k1", help="how it is estimated: as in the paper, or so that it holds")
    entropy_coef: float = option(0.001, help="weight of the entropy")
    mode: Mode = option("interleaved", help="grammar of the response")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    max_images: int | None = option(None, help="most images of a response")
    max_text_tokens: int | None = option(None, help="most tokens of a response outside its images")
    overlong_buffer: int = option(0, help="last tokens of max_new_tokens that cost reward, more with each; 0 for none")
    overlong_penalty: float = option(1.0, help="reward that a response of max_new_tokens loses")
    temperature: float = option(1.0, help="sampling temperature")
    top_p: float = option(0.95, help="nucleus of sampling")
    top_k: int = option(0, help="most likely tokens sampled from; 0 for all")
    backend: Engine = option("transformers", help="what samples; vllm is an optional extra")
    vllm_gpu_memory_utilization: float = option(0.3, help="share of a GPU's memory that vllm takes beside the trainer")
    batch_size: int = option(64, help="responses sampled together")
    seed: int = option(42, help="seed of the order of questions and of the sampling")
    dtype: Dtype = option("float32", help="precision of the weights")
    bf16: bool = option(False, help="compute in bf16, whatever the weights' precision")
    gradient_checkpointing: Checkpointing = option("selective", help="what a layer keeps, as in pesft")
    lora_rank: int = option(0, help="train a low-rank adapter of this rank, merged at the end; 0 trains all weights")
    lora_alpha: int = option(16, help="the adapter's scale is lora_alpha / lora_rank")
    deepspeed_config_json: str | None = option(
        None, help="DeepSpeed's configuration of ZeRO 1 or 2, to spread gradients and optimiser: configs/engines"
    )
    use_cpu: bool = option(False, help="leave GPUs alone")
    max_drift: float = option(
        0.1, help="mean difference of log-probs, in nats, between sampler and trainer from which an alarm is raised"
    )
    max_length: int = option(12000, help="most tokens of a row of train_data")
    sample_steps: int = option(10, help="steps between samples of the answers, in OUTPUT_PATH/samples; 0 for none")
    save_steps: int = option(0, help="steps between resumable checkpoints; 0 for none")
    resume_from_checkpoint: str | None = option(
        None, help="a resumable checkpoint, or 'last': the newest of OUTPUT_PATH, from the start if there is none"
    )
    report_to: Tracker = option("none", help="experiment tracker; log.jsonl is always written")
    push_to_hub: str | None = option(None, help="repository of the hub, USER/NAME, that the result is uploaded to")
    hub_private: bool = option(False, help="that repository is private; an old one must be so already")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_steps", "train_batch_size", "gen_batch_size", "max_gen_batches", "mini_batch_size")
        at_least(self, 1, "per_device_train_batch_size", "max_new_tokens", "batch_size", "max_length", "lora_alpha")
        at_least(self, 2, "group_size")
        at_least(self, 0, "learning_rate", "warmup_steps", "weight_decay", "adam_beta2", "max_grad_norm", "max_drift")
        at_least(self, 0, "clip_low", "clip_high", "kl_coef", "entropy_coef", "max_images", "max_text_tokens", "top_k")
        at_least(self, 0, "overlong_buffer", "overlong_penalty", "seed", "lora_rank", "sample_steps", "save_steps")
        at_least(self, 0, "accuracy_weight", "format_weight", "perception_weight", "image_weight")
        if self.seed >= 2**32:
            raise InputError(f"must be below 2^32, not {self.seed}", field="seed")
        check_hub(self)
        if self.train_batch_size % self.mini_batch_size:
            words = f"{self.mini_batch_size} does not divide train_batch_size {self.train_batch_size}"
            raise InputError(words, field="mini_batch_size")
        if self.gen_batch_size * self.max_gen_batches < self.train_batch_size:
            most = f"{self.max_gen_batches} (max_gen_batches) x {self.gen_batch_size}"
            raise InputError(f"{most} is less than train_batch_size {self.train_batch_size}", field="gen_batch_size")
        if self.overlong_buffer > self.max_new_tokens:
            raise InputError(f"is more than max_new_tokens, {self.max_new_tokens}", field="overlong_buffer")
        for name in ("max_images", "max_text_tokens"):
            if self.mode == "unrestricted" and getattr(self, name) is not None:
                raise InputError("mode unrestricted has no grammar that could count", field=name)
        if self.mode == "text-only" and self.max_images:
            raise InputError("mode text-only draws no images", field="max_images")
        if self.mode == "image-only" and self.max_images == 0:
            raise InputError("mode image-only needs at least 1", field="max_images")
        if self.mode == "image-only" and not self.image_weight:
            raise InputError("mode image-only has nothing else to learn from", field="image_weight")
        if self.mode == "image-only" and self.max_text_tokens is not None:
            raise InputError("mode image-only says nothing", field="max_text_tokens")
        file = self.deepspeed_config_json
        if file is not None and not Path(file).is_file():
            raise InputError("is no file", file=file, field="deepspeed_config_json")
        if self.dtype not in ("float32", "fp32") and not self.lora_rank and file is None:
            reason = (
                f"{self.dtype} weights are too coarse for small updates; take float32 with --bf16, ZeRO or a lora_rank"
            )
            raise InputError(reason, field="dtype")
        if self.clip_low >= 1:
            raise InputError(f"must be below 1, not {self.clip_low}", field="clip_low")
        if self.adam_beta2 >= 1:
            raise InputError(f"must be below 1, not {self.adam_beta2}", field="adam_beta2")


@dataclass
class TokenizeOptions:
    """Turn a data set into shards of token ids, its pictures into codes, for training."""

    input: str = option(help="JSONL, parquet, a folder of either, or the name of a data set of the hub")
    format: DataFormat = option(help="schema of its rows (docs/data.md); jsonl is this project's own")
    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}', whose vocabulary and VQ are used")
    output_path: str = option(help="folder for the shards; started again there, an interrupted run goes on")
    configs: str | None = option(None, help="configs to read, or files of a folder, with commas between; none for all")
    split: str = option("train", help="split to read of parquet and of the hub")
    revision: str | None = option(None, help="commit, tag or branch of a data set of the hub; none is its newest")
    mode: Template = option("plain", help="how a row is laid out")
    plain_include_rationale: bool = option(
        True, help="mode plain: the reasoning, drawings included, is part of the response; off leaves the answer alone"
    )
    max_length: int = option(5100, help="most tokens of a row; a longer one is a reject")
    limit: int | None = option(None, help="only the first so many rows of each config or file")
    max_rejects: float | None = option(
        None, help="most rows that may be rejected, below 1 as a share; with more the folder is not finished"
    )
    seed: int = option(0, help="chooses the lead phrase of each row in mode templated")
    rows_per_shard: int = option(1000, help="rows of a file")
    batch_size: int = option(16, help="pictures encoded together")
    workers: int = option(0, help="processes that decode pictures; with 0 the one that encodes does")
    device: str = option("cpu", help="torch device that encodes")
    cache_path: str | None = option(
        None, help="file that keeps the codes of pictures, for later runs too; none is OUTPUT_PATH/codes.sqlite"
    )

    def __post_init__(self) -> None:
        at_least(self, 1, "max_length", "limit", "rows_per_shard", "batch_size")
        at_least(self, 0, "max_rejects", "seed", "workers")
        if self.mode == "templated" and not self.plain_include_rationale:
            raise InputError("mode templated always has the rationale", field="plain_include_rationale")
        if not all(self.config_names):
            raise InputError(f"a name is missing in {self.configs!r}", field="configs")

    @property
    def config_names(self) -> list[str]:
        return [] if self.configs is None else [name.strip() for name in self.configs.split(",")]


@dataclass
class BenchOptions(AnsweringOptions):
    """Answer a benchmark's questions, grade them, and report figures with intervals."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    suite: Suite | None = option(None, help=f"what is asked; none is {SHIPPED}, or omni-bench where there are data")
    data: str | None = option(
        None,
        help="the suite's file or folder, or a hub id; none is its own data set of the hub",
        alias="parquet_path",
    )
    revision: str | None = option(None, help="revision of a data set of the hub; none is the newest")
    split: str | None = option(None, help="split or part of the suite, where it has several")
    source_column: str | None = option(None, help="column that names a row's source; none: docs/omni-bench.md's rule")
    output_dir: str = option("out/bench", help="folder for results and drawings")
    outfile: str | None = option(None, help="also write answers in the original's lines, to this file of output_dir")
    control_path: str | None = option(None, help="checkpoint of a text-only control asked the same questions")
    limit: int | None = option(None, help="only the first so many rows, which in a sorted file may be of one task")
    swap_pictures: bool = option(False, help="show each question another's pictures: do pictures count?")
    mm_images_per_prompt: int | None = option(None, help="most pictures of a question; a row with more fails")
    profile: Profile | None = option(None, help="rules of grading; none: each question's own, by its source")
    primary: Literal["rule", "judge"] = option("rule", help="whose verdict is a record's `correct`")
    judge_url: str | None = option(None, help="base of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    judge_model: str | None = option(None, help="the judge's model, by the endpoint's name for it")
    judge_key_env: str = option("OPENAI_API_KEY", help="environment variable that has the judge's key, if it needs one")
    judge_timeout: float = option(60.0, help="seconds a judge may take for a reply")
    judge_retries: int = option(4, help="how often a judge is asked again that gave no verdict")
    judge_parallel: int = option(8, help="questions put to the judge at a time")
    judge_max_tokens: int = option(16, help="tokens of a judge's reply; one that reasons first needs more")
    judge_tokens_field: Literal["max_tokens", "max_completion_tokens"] = option(
        "max_tokens", help="what the endpoint calls that budget"
    )
    judge_temperature: float | None = option(0.0, help="temperature of the judge; none leaves it to the endpoint")
    judge_price_in: float = option(0.0, help="price of a million tokens the judge reads")
    judge_price_out: float = option(0.0, help="price of a million tokens the judge writes")
    batch_size: int = option(100, help="answers made together on a device")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "limit", "judge_parallel", "judge_max_tokens", "mm_images_per_prompt")
        at_least(self, 0, "judge_retries", "judge_temperature", "judge_price_in", "judge_price_out")
        at_least(self, 0.01, "judge_timeout")
        if self.control_path == self.model_path:
            raise InputError("is the model itself", field="control_path")
        if (self.judge_url is None) != (self.judge_model is None):
            missing = "judge_model" if self.judge_model is None else "judge_url"
            raise InputError("judge_url and judge_model go together", field=missing)
        if self.judge_url is not None and not self.judge_url.startswith(("http://", "https://")):
            raise InputError(f"must begin with http:// or https://, not {self.judge_url[:40]!r}", field="judge_url")
        if self.judge_url is not None and not _is_base(self.judge_url):
            message = "must be no more than what comes before /chat/completions: a key is read from judge_key_env"
            raise InputError(message, field="judge_url")  # it is not shown: it may have a password in it
        if self.primary == "judge" and self.judge_url is None:
            raise InputError("needs a judge: judge_url and judge_model", field="primary")
        if self.outfile is not None and (
            not self.outfile or Path(self.outfile).name != self.outfile or self.outfile == ".."
        ):
            raise InputError("must be the name of a file, which goes into output_dir", field="outfile")
        if (self.outfile or "").casefold() in OWN:
            raise InputError(f"{self.outfile!r} is what the run folder has already", field="outfile")


def _is_base(url: str) -> bool:
    """Whether a path can be put behind an address: it has a host, and no user, query or fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and "@" not in parts.netloc and not (parts.query or parts.fragment)


@dataclass
class ReportOptions:
    """Make one HTML page of a finished run."""

    run_dir: str = option(help="folder of the run, or of several")
    model_path: str | None = option(
        None, help="of a bootstrap: the checkpoint that drew; none looks for it where the run had it"
    )


@dataclass
class CompareOptions:
    """Say whether runs on the same questions differ by more than noise; every run is compared with the first."""

    runs: list[str] = option(help="folders of two or more runs; the words without a flag")
    output_dir: str = option("out/compare", help="folder for compare.html, compare.md and compare.json")

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError("must be two folders at least", field="runs")
