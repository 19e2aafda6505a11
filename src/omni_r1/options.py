"""The options of every verb. A wrong value or a contradiction is an InputError that names the option.

`option_parser` reads them. This module imports nothing heavy, so `--help` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omni_r1.errors import InputError
from omni_r1.option_parser import option

Mode = Literal["interleaved", "interleaved-text-image", "unrestricted", "text-only", "image-only"]
Template = Literal["plain", "templated"]
Dtype = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
DataFormat = Literal["zebra-cot", "original", "m3cot", "jsonl"]
Engine = Literal["transformers", "vllm"]
Quantize = Literal["8bit", "4bit"]
Tracker = Literal["none", "trackio", "wandb", "tensorboard", "mlflow"]
Look = Literal["band", "smoothness", "hidden", "none"]
CrossEntropy = Literal["full", "grammar"]
Checkpointing = Literal["selective", "full", "none"]
SHIPPED = "miniature"  # the name under which the miniature's checkpoint and bench are found


def at_least(options: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"must be at least {least}, not {value}", field=name)


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
class GenerateOptions:
    """Answer the questions of a JSONL file, in text and drawings."""

    input: str = option(help="JSONL of rows with `id`, `prompt` (with <image> marks) and `images`; or a folder of them")
    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    processor_path: str | None = option(None, help="folder or hub id of another tokenizer and processor")
    vq_ref_path: str | None = option(None, help="checkpoint whose VQ sees and draws, instead of the model's own")
    output_dir: str = option("out/generate", help="folder for the answers, a folder in it for each input file")
    data_root: str | None = option(None, help="folder no image path may leave; none is the input's folder")
    allow_network: bool = option(False, help="fetch images with http(s) addresses")
    template: Template = option("plain", help="how the prompt is laid out")
    image_placeholder_id: int | None = option(
        None, help="token id of <image>; only to make sure: the checkpoint has it"
    )
    append_boi: bool = option(False, help="end the prompt with the begin of an image, so that answers draw first")
    mode: Mode = option("interleaved", help="grammar of the response", alias="generation_mode")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    max_length: int = option(12000, help="tokens of prompt and response")
    max_images: int | None = option(None, help="most images of a response")
    max_text_tokens: int | None = option(None, help="most tokens of a response outside its images")
    strict_decode: bool = option(
        True, help="leave out broken images; --no-strict-decode cuts or fills them, mode unrestricted only"
    )
    num_samples: int = option(1, help="answers to each row")
    do_sample: bool = option(False, help="sample instead of taking the most likely token")
    temperature: float = option(1.0, help="sampling temperature")
    top_p: float = option(1.0, help="nucleus of sampling")
    top_k: int = option(0, help="most likely tokens sampled from; 0 for all")
    guidance_scale: float = option(1.0, help="classifier-free guidance of images, transformers only; 1 is off")
    seed: int = option(0, help="seed; every answer has its own, counted on from it")
    resume: bool = option(True, help="go on where an earlier run in this folder stopped")
    retry_errors: bool = option(False, help="when going on, try failed rows again")
    priority_terms: str | None = option(None, help="words, with commas between; rows that have one are answered first")
    verbose: bool = option(False, help="print every answer as it is finished")
    backend: Engine = option("transformers", help="what runs the language model; vllm is an optional extra")
    tensor_parallel_size: int = option(1, help="GPUs that share the language model, vllm only")
    batch_size: int = option(16, help="answers made together on a device")
    compile: bool = option(False, help="compile the decoding step, for GPUs, transformers only")
    device: str = option(
        "cpu",
        help="torch device; several with commas between, a process each; or auto: all GPUs, then the CPU, in one; "
        "with vllm that of the VQ module",
    )
    max_gpu_memory: str | None = option(None, help="most that weights take on each GPU, as 10GiB; device auto only")
    dtype: Dtype = option("float32", help="precision of the language model")
    quantize: Quantize | None = option(None, help="bits of the layers' weights; needs the extra lowmem")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_new_tokens", "max_length", "batch_size", "num_samples", "tensor_parallel_size")
        if self.tensor_parallel_size > 1 and self.backend != "vllm":
            raise InputError("is backend vllm's; device auto spreads a model over GPUs", field="tensor_parallel_size")
        if not all(self.devices):
            raise InputError(f"a name is missing in {self.device!r}", field="device")
        if len(self.devices) > 1 and self.backend == "vllm":
            raise InputError("backend vllm takes several devices by tensor_parallel_size, not a list", field="device")
        if len(self.devices) > 1 and "auto" in self.devices:
            raise InputError("auto stands alone: it takes all devices there are", field="device")
        if self.compile and self.device == "auto":
            raise InputError("is for a model on one device", field="compile")
        if self.quantize is not None and self.backend == "vllm":
            raise InputError("backend vllm reads the weights as they are", field="quantize")
        if self.max_gpu_memory is not None and (self.device != "auto" or self.backend == "vllm"):
            raise InputError("only device auto of backend transformers heeds it", field="max_gpu_memory")
        at_least(self, 0, "max_images", "max_text_tokens", "top_k", "seed", "guidance_scale")
        if self.num_samples > 1 and not self.do_sample:
            raise InputError("needs do_sample: greedy decoding gives one answer every time", field="num_samples")
        if self.retry_errors and not self.resume:
            raise InputError("a run that starts anew has no errors to try again", field="retry_errors")
        for name in ("max_images", "max_text_tokens"):
            if self.mode == "unrestricted" and getattr(self, name) is not None:
                raise InputError("mode unrestricted has no grammar that could count", field=name)
        if self.guidance_scale != 1 and self.mode in ("unrestricted", "text-only"):
            raise InputError(f"mode {self.mode} has no grammar of images to guide", field="guidance_scale")
        if self.compile and self.backend == "vllm":
            raise InputError("vLLM compiles by itself", field="compile")
        if self.guidance_scale != 1 and self.backend == "vllm":
            raise InputError("backend vllm cannot: it samples each request from its own logits", field="guidance_scale")
        if self.mode == "image-only" and self.max_text_tokens is not None:
            raise InputError("mode image-only says nothing", field="max_text_tokens")
        if not self.do_sample and (self.temperature, self.top_p, self.top_k) != (1.0, 1.0, 0):
            raise InputError("is needed: temperature, top_p and top_k have no effect without", field="do_sample")
        if self.append_boi and self.mode == "text-only":
            raise InputError("mode text-only draws no image that could begin", field="append_boi")
        if self.append_boi and self.max_images == 0:
            raise InputError("the image it begins is one of max_images, which is 0", field="append_boi")
        if self.mode == "text-only" and self.max_images:
            raise InputError("mode text-only draws no images", field="max_images")
        if self.mode == "image-only" and self.max_images == 0:
            raise InputError("mode image-only needs at least 1", field="max_images")

    @property
    def devices(self) -> list[str]:
        return [name.strip() for name in self.device.split(",")]


@dataclass
class PesftOptions:
    """Fine-tune a checkpoint on trajectories with the perception alignment loss."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}', to start from")
    output_path: str = option(help="folder for the trained checkpoint, its log and its projection")
    train_data: str | None = option(None, help="folder made by tokenize, or JSONL file of trajectories (docs/data.md)")
    json_dir: str | None = option(None, help="instead: JSONL, or a folder of it, as the original repository trains on")
    mode: Template = option("plain", help="json_dir: how a row is laid out")
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
        at_least(self, 0, "accuracy_weight", "format_weight", "perception_weight")
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
class BenchOptions:
    """Answer a benchmark's questions, grade them, and report figures with intervals."""

    model_path: str = option(help=f"checkpoint folder, hub id, or '{SHIPPED}'")
    data: str = option(SHIPPED, help=f"parquet in Omni-Bench's schema, or '{SHIPPED}'")
    output_dir: str = option("out/bench", help="folder for results and drawings; an earlier run there is replaced")
    control_path: str | None = option(None, help="checkpoint of a text-only control asked the same questions")
    template: Template = option("plain", help="how the prompt is laid out")
    mode: Mode = option("interleaved", help="grammar of the response")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    limit: int | None = option(None, help="only the first so many questions")
    swap_pictures: bool = option(False, help="show each question another's picture: do pictures count?")
    batch_size: int = option(100, help="questions answered together")
    device: str = option("cpu", help="torch device")
    dtype: Dtype = option("float32", help="precision of the language model")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_new_tokens", "batch_size", "limit")
        if self.control_path == self.model_path:
            raise InputError("is the model itself", field="control_path")


@dataclass
class ReportOptions:
    """Make one HTML page of a finished run."""

    run_dir: str = option(help="folder of the run, or of several")


@dataclass
class CompareOptions:
    """Say whether runs on the same questions differ by more than noise; every run is compared with the first."""

    runs: list[str] = option(help="folders of two or more runs; the words without a flag")
    output_dir: str = option("out/compare", help="folder for compare.html, compare.md and compare.json")

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError("must be two folders at least", field="runs")
