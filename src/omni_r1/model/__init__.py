"""`load` a checkpoint, or `create` a fresh one: both give an `Omni`, a model with its vocabulary and eyes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from omni_r1 import pixels
from omni_r1.errors import InputError
from omni_r1.model import checkpoint, placement, vq
from omni_r1.model.chameleon import Chameleon
from omni_r1.model.checkpoint import CheckpointError
from omni_r1.options import Quantize
from omni_r1.trajectory import TEMPLATES, Trajectory, interleave
from omni_r1.trajectory import Image as Codes
from omni_r1.vocabulary import Vocabulary

if TYPE_CHECKING:
    from omni_r1.generate import Completion, Prompt

__all__ = ["Chameleon", "CheckpointError", "Omni", "create", "load"]


@dataclass
class Omni:
    """A checkpoint in memory.

    `config` is config.json as it was read and `companions` are the tokenizer and processor files, so that `save`
    gives back the layout that was loaded even when the folder is gone.
    """

    model: Chameleon
    vocabulary: Vocabulary
    config: dict[str, Any] = field(repr=False)
    companions: dict[str, bytes] = field(repr=False)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """PIL images to token ids (n, S) on the CPU, always through the fp32 VQ module.

        Raises InputError naming the image, counted from 1, that cannot be used.
        """
        if isinstance(images, Image.Image):
            raise InputError("is one image; a list of images is wanted", field="images")
        return self.vocabulary.codes_to_tokens(vq.encode_images(self.model.model.vqmodel, images))

    def square(self, image: Image.Image, number: int = 1) -> Image.Image:
        """All that the model sees of a PIL image, (R, R) RGB: encoding it instead gives the same ids.

        Raises InputError naming the image by its number.
        """
        return pixels.square(image, self.model.model.vqmodel.config.resolution, number)

    def decode(self, ids: Tensor) -> list[Image.Image]:
        """Token ids (n, S) to PIL images of R x R pixels. Raises InputError for another shape."""
        if ids.ndim != 2 or ids.shape[1] != self.vocabulary.image_length:
            raise InputError(f"ids of {tuple(ids.shape)}, not of (n, {self.vocabulary.image_length})", field="ids")
        return vq.decode_codes(self.model.model.vqmodel, self.vocabulary.tokens_to_codes(ids))

    def prompt(self, text: str, images: Sequence[Image.Image] = (), template: str = "plain") -> Trajectory:
        """A question as a prompt: its PIL images put where `<image>` marks them in its text, without marks in front.

        Raises InputError for an image that cannot be used, TrajectoryError where marks and images differ in number.
        """
        codes = self.vocabulary.tokens_to_codes(self.encode(images)).tolist()
        return TEMPLATES[template](interleave(text, [Codes(tuple(image)) for image in codes]))

    def generate(self, prompts: "Sequence[Prompt]", **options: Any) -> "list[Completion]":
        """Complete every prompt (text, Trajectory or token ids); `options` are those of `SamplingOptions`."""
        from omni_r1.generate import SamplingOptions, TransformersBackend

        return TransformersBackend(self).generate(prompts, SamplingOptions(**options))

    def save(self, path: str | Path, dtype: str | None = None) -> None:
        """Write the published layout to folder `path`; `dtype` stores the language model in another precision.

        Raises CheckpointError where weights are quantized, or kept on the CPU for a GPU: they are not at hand then.
        """
        checkpoint.write(Path(path), self.model, self.config, self.companions, dtype)


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    max_memory: placement.MaxMemory = None,
    quantize: Quantize | None = None,
    revision: str | None = None,
    processor_path: str | Path | None = None,
    vq_path: str | Path | None = None,
    language_model: bool = True,
) -> Omni:
    """Load a checkpoint in the published layout from a folder, or by hub id where no such folder exists; `miniature`
    is the one that comes with the package.

    `dtype` (float32, bfloat16, float16) is the language model's; the VQ module is always fp32. Device `auto` spreads
    the layers over the GPUs there are, with weights up to `max_memory` on each (see `placement.room`), and keeps on the
    CPU what does not fit. `quantize` (8bit, 4bit) makes the layers' weights, but not the head and the VQ module, that
    small by bitsandbytes, which comes with the extra `lowmem`.

    Tokenizer and processor may come from `processor_path`, and the VQ module from the checkpoint `vq_path` instead.
    Without `language_model` only the VQ module is read, for a backend that has the language model elsewhere: the result
    encodes and decodes.

    Raises CheckpointError naming file and tensor, VocabularyError, or InputError for a wrong option.
    """
    auto = device == placement.AUTO
    if max_memory is not None and not auto:
        raise InputError(f"only device {placement.AUTO} heeds it", field="max_memory")
    sizes = placement.room(max_memory) if auto else {}
    home = next(iter(sizes)) if auto else _device(device)
    folder = checkpoint.locate(path, revision)
    raw = checkpoint.read_config(folder)
    words = folder if processor_path is None else checkpoint.locate(processor_path)
    companions = checkpoint.read_companions(words)
    vocabulary = Vocabulary.from_checkpoint(folder, words)
    frame = checkpoint.skeleton(raw, folder / "config.json")
    if language_model:
        wide = checkpoint.torch_dtype(dtype)
        bits = placement.quantization(quantize, wide)
        places = placement.placement(frame, sizes, wide, quantize) if auto else {"": home}
        model = checkpoint.read_weights(folder, frame, wide, places, bits, other_vq=vq_path is not None)
    else:
        model = frame  # its language model stays on the meta device
        model.model.vqmodel.to_empty(device=home)
    if vq_path is not None or not language_model:
        checkpoint.read_vq(checkpoint.locate(vq_path or folder), model)
    return Omni(model, vocabulary, raw, companions)


def create(path: str | Path, *, seed: int = 0) -> Omni:
    """A model with random weights, from a folder that holds only config.json and the tokenizer files."""
    folder = checkpoint.locate(path)
    raw = checkpoint.read_config(folder)
    vocabulary = Vocabulary.from_checkpoint(folder)
    config = checkpoint.skeleton(raw, folder / "config.json").config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Chameleon(config).eval()
    return Omni(model, vocabulary, raw, checkpoint.read_companions(folder))


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch: unknown name, no such device, built without CUDA
        raise InputError(f"'{name}' cannot be used: {str(error).splitlines()[0]}", field="device") from error
