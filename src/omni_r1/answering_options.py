"""How a model is asked, and what runs it: the options that verbs which ask a model share. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Any, Literal

from omni_r1.errors import InputError
from omni_r1.option_parser import option

Mode = Literal["interleaved", "interleaved-text-image", "unrestricted", "text-only", "image-only"]
Template = Literal["plain", "templated"]
Dtype = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
Engine = Literal["transformers", "vllm"]
Quantize = Literal["8bit", "4bit"]
SHIPPED = "miniature"  # the name under which the miniature's checkpoint and bench are found


def at_least(options: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= least:  # nan neither
            raise InputError(f"must be at least {least}, not {value}", field=name)


@dataclass(kw_only=True)
class AnsweringOptions:
    """What the verbs that ask a model have in common: how it answers, and what runs it."""

    model_path: str
    processor_path: str | None = option(None, help="folder or hub id of another tokenizer and processor")
    vq_ref_path: str | None = option(None, help="checkpoint whose VQ sees and draws, instead of the model's own")
    template: Template = option("plain", help="how the prompt is laid out")
    append_boi: bool = option(False, help="end the prompt with the begin of an image, so that answers draw first")
    mode: Mode = option("interleaved", help="grammar of the response", alias="generation_mode")
    max_new_tokens: int = option(4096, help="tokens of a response, images included")
    max_length: int = option(12000, help="tokens of prompt and response")
    max_images: int | None = option(None, help="most images of a response")
    max_text_tokens: int | None = option(None, help="most tokens of a response outside its images")
    num_samples: int = option(1, help="answers to each row")
    do_sample: bool = option(False, help="sample instead of taking the most likely token")
    temperature: float = option(1.0, help="sampling temperature")
    top_p: float = option(1.0, help="nucleus of sampling")
    top_k: int = option(0, help="most likely tokens sampled from; 0 for all")
    guidance_scale: float = option(1.0, help="classifier-free guidance of images, transformers only; 1 is off")
    seed: int = option(0, help="seed; every answer has its own, counted on from it")
    resume: bool = option(True, help="go on where an earlier run in this folder stopped")
    retry_errors: bool = option(False, help="when going on, try failed rows again")
    backend: Engine = option("transformers", help="what runs the language model; vllm is an optional extra")
    tensor_parallel_size: int = option(1, help="GPUs that share the language model, vllm only", alias="tp_size")
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
