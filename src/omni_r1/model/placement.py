"""Which device each part of a model lives on, and in how many bits: what `device="auto"` and `quantize` do.

The language model's layers are spread over the GPUs; those that fit on none stay on the CPU and are moved in each time
they are used (accelerate's hooks, which `from_pretrained` attaches by the map made here). Everything else, that is
embeddings, final norm, head and VQ module, is used outside the model's own forward and so stays on the first GPU.
"""

import importlib.util
import logging
from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import get_max_memory
from transformers import BitsAndBytesConfig

from omni_r1.errors import InputError
from omni_r1.model.chameleon import Chameleon
from omni_r1.options import Quantize

AUTO = "auto"
LAYERS, VQ = "model.layers.", "model.vqmodel."
WEIGHT_BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}  # with a float32 scale for each 64 weights; 8bit has one a row
SPARE = 0.1  # of a GPU's free memory, left for the cache and what a step computes

MaxMemory = str | Mapping[int | str, int | str] | None


def room(max_memory: MaxMemory) -> dict[int | str, int]:
    """Bytes that weights may take on each device: GPUs by number, in order, then `cpu`.

    None: nine tenths of what is free on each GPU. Text such as `10GiB`: that much on each GPU. A mapping, as
    accelerate's: that much, and GPUs it does not name are not used. Raises InputError for what is no size or device.
    """
    free = get_max_memory()
    gpus: list[int | str] = [device for device in free if isinstance(device, int)]
    if max_memory is None:
        given: dict[int | str, int | str] = {gpu: int(free[gpu] * (1 - SPARE)) for gpu in gpus}
    elif isinstance(max_memory, str):
        given = dict.fromkeys([*gpus, "cpu"], max_memory)  # the CPU's to be checked, then replaced
    else:
        given = dict(max_memory)
    for device in given:
        if device != "cpu" and device not in gpus:
            raise InputError(f"there is no device {device!r}, only {[*gpus, 'cpu']}", field="max_memory")
    try:
        sizes = get_max_memory(given)
    except ValueError as error:
        raise InputError(str(error), field="max_memory") from error
    if not isinstance(max_memory, Mapping) or "cpu" not in max_memory:
        sizes["cpu"] = free.get("cpu", free.get("mps", 0))  # none of its own where a GPU shares the host's
    return sizes


def placement(
    frame: Chameleon, sizes: Mapping[int | str, int], dtype: torch.dtype, quantize: Quantize | None = None
) -> dict[str, int | str]:
    """A device for every part of a model: the `device_map` of `from_pretrained`, each layer under its own name.

    `frame` is the model on the meta device, `sizes` are bytes as `room` gives them. Raises InputError where it does
    not fit, or where quantized layers would have to stay on the CPU beside GPUs, which bitsandbytes does not do.
    """
    gpus = [device for device in sizes if isinstance(device, int) and sizes[device] > 0]
    layers = frame.config.num_hidden_layers
    layer = layer_bytes(frame, dtype, quantize)
    rest = rest_bytes(frame, dtype)
    places = [(sizes[gpu] - (rest if gpu == gpus[0] else 0)) // layer for gpu in gpus]
    if gpus and places[0] < 0:
        raise InputError(f"embeddings, head and VQ module take {_gib(rest)} on the first GPU", field="max_memory")
    if gpus and sum(places) < layers:
        if quantize is not None:
            raise InputError(f"the {quantize} weights do not fit on the GPUs", field="max_memory")
        places[0] = max(places[0] - 1, 0)  # where layers that live on the CPU are moved to, one after another
    shares = spread(layers, places)
    needed = (layers - sum(shares)) * layer + (0 if gpus else rest)
    if needed > sizes["cpu"]:
        raise InputError(f"{_gib(needed)} of weights are left for the CPU: too many", field="max_memory")
    homes: list[int | str] = [gpu for gpu, share in zip(gpus, shares, strict=True) for _ in range(share)]
    homes += ["cpu"] * (layers - len(homes))
    parts = [f"model.{name}" for name, _ in frame.model.named_children() if name != "layers"]
    home = gpus[0] if gpus else "cpu"
    return {part: home for part in [*parts, "lm_head"]} | {f"{LAYERS}{i}": place for i, place in enumerate(homes)}


def spread(count: int, places: Sequence[int]) -> list[int]:
    """How many of `count` layers each device takes that has places for so many: as evenly as they allow."""
    shares = [0] * len(places)
    for _ in range(min(count, sum(places))):
        open_ = [device for device, share in enumerate(shares) if share < places[device]]
        shares[min(open_, key=shares.__getitem__)] += 1
    return shares


def layer_bytes(frame: Chameleon, dtype: torch.dtype, quantize: Quantize | None = None) -> int:
    """Bytes of one layer's weights. All linear weights of a layer are quantized, its norms are not."""
    weights = [weight for name, weight in frame.named_parameters() if name.startswith(f"{LAYERS}0.")]
    wide = WEIGHT_BYTES[quantize] if quantize else dtype.itemsize
    linear = {id(part.weight) for part in frame.model.layers[0].modules() if isinstance(part, torch.nn.Linear)}
    return int(sum(weight.numel() * (wide if id(weight) in linear else dtype.itemsize) for weight in weights))


def rest_bytes(frame: Chameleon, dtype: torch.dtype) -> int:
    """Bytes of all that is no layer: embeddings, norm and head in `dtype`, the VQ module in fp32."""
    return sum(
        weight.numel() * (torch.float32 if name.startswith(VQ) else dtype).itemsize
        for name, weight in frame.named_parameters()
        if not name.startswith(LAYERS)
    )


def quantization(quantize: Quantize | None, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """transformers' config for weights of 8 (LLM.int8) or 4 bits (NF4): the layers' own, never head and VQ module.

    Raises InputError for another name, and where bitsandbytes is not installed.
    """
    if quantize is None:
        return None
    if quantize not in WEIGHT_BYTES:
        raise InputError(f"'{quantize}' is not one of {', '.join(WEIGHT_BYTES)}", field="quantize")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("needs bitsandbytes: pip install -c constraints.txt -e '.[lowmem]'", field="quantize")
    # It tells on every product that what is not float16 is cast to it: a line for each layer of each step.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(
        load_in_8bit=quantize == "8bit",
        load_in_4bit=quantize == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", "model.vqmodel"],
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
