"""The published checkpoint layout on disk: config.json, tokenizer and processor files, safetensors weights.

Reading checks every tensor's name and shape from the file headers before any weight is loaded; writing gives the
same layout back, so that what this project trains loads here and in the original code. Pickles are never opened.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import BitsAndBytesConfig, ChameleonConfig
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig

from omni_r1 import files, shipped
from omni_r1.errors import InputError, OmniError
from omni_r1.files import not_had, read_bytes, write_atomic, writing
from omni_r1.model.chameleon import Chameleon
from omni_r1.options import SHIPPED

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SAVING = ".saving-"  # begins the name of the folder where weights are written
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_WORDS = 64 * 1024 * 1024  # bytes of any file that is no weights: the published tokenizer has four million
MAX_HEADER = 16 * 1024 * 1024  # bytes of a safetensors header: the largest published has some hundred thousand
NUMBERS = {"F64", "F32", "F16", "BF16"}
COMPANIONS = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES |= {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What a config may ask for, checked before anything of that size is built. Widths are bounded by the tensors' shapes.
LIMITS = {
    "num_hidden_layers": 256,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 30,
}
VQ_LIMITS = {"num_res_blocks": 16, "base_channels": 1 << 16, "embed_dim": 1 << 16, "latent_channels": 1 << 16}
LEVELS, MULTIPLIER = 10, 64  # of the VQ's channel_multiplier: how many numbers, how large
# config.json may hold what upstream would obey: another weight file, kernels from the hub, quantisation, code.
NAMED = {"architectures", "boi_token_id", "eoi_token_id", "rope_theta", "rope_scaling"}  # in published configs
DESCRIBING, DESCRIBING_VQ = {*ChameleonConfig.__annotations__, *NAMED}, {*ChameleonVQVAEConfig.__annotations__}
DECODER, VQ = "model.vqmodel.decoder.", "model.vqmodel."


class CheckpointError(OmniError):
    """A checkpoint that cannot be used; the message starts with the file and names the tensor or field."""


def weight_sums(path: str | Path) -> dict[str, str]:
    """sha256 of each file of weights in a checkpoint's folder, by the file's name."""
    return {file.name: files.sha256(file) for file in sorted(locate(path).glob("*.safetensors"))}


def locate(path: str | Path, revision: str | None = None) -> Path:
    """The checkpoint's folder: the shipped miniature by its name, `path` itself where it exists, else the hub
    repository of that name, downloaded."""
    folder = shipped.MODEL if str(path) == SHIPPED else Path(path)
    if folder.is_dir():
        if revision is not None:
            raise InputError("a folder has no revisions, only a hub repository has", field="revision")
        return folder
    if folder.exists():
        raise CheckpointError(f"{path}: a checkpoint is a folder, this is a file")
    if folder == shipped.MODEL:
        raise CheckpointError(f"{folder}: the miniature's checkpoint is not there; runs/miniature.sh trains it")
    try:
        patterns = [*COMPANIONS, "*.json", "*.safetensors"]  # the band of step images is such a file, too
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise CheckpointError(f"{path}: no such folder") from None
    except (HfHubHTTPError, OSError) as error:  # OSError: offline, or the name is neither cached nor reachable
        raise CheckpointError(f"{path}: no such folder, and not to be had from the hub: {not_had(error)}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is written there."""
    file = folder / "config.json"
    raw = _json(file)
    if not isinstance(raw, dict) or raw.get("model_type") != "chameleon":
        raise CheckpointError(f"{file}: model_type is not chameleon")
    return raw


def _json(file: Path) -> Any:
    try:
        return json.loads(_content(file).decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON: {error}") from error


def _content(file: Path) -> bytes:
    try:
        return read_bytes(file, MAX_WORDS)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing") from None
    except InputError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error


def skeleton(raw: dict[str, Any], file: Path) -> Chameleon:
    """The model a config describes, without weights (on the meta device); its `.config` is upstream's object."""
    told = {key: value for key, value in raw.items() if key in DESCRIBING}
    vq = {key: value for key, value in (raw.get("vq_config") or {}).items() if key in DESCRIBING_VQ}
    if vq.get("attn_type", "vanilla") is None:
        vq["attn_type"] = "none"  # upstream documents null and then refuses it
    levels = vq.get("channel_multiplier", ())
    wrong = [name for name, most in LIMITS.items() if not _within(told.get(name), most)]
    wrong += [f"vq_config.{name}" for name, most in VQ_LIMITS.items() if not _within(vq.get(name), most)]
    if not isinstance(levels, list | tuple) or len(levels) > LEVELS or not all(_within(n, MULTIPLIER) for n in levels):
        wrong.append("vq_config.channel_multiplier")
    if vq.get("in_channels", 3) != 3:
        wrong.append("vq_config.in_channels")
    if wrong:
        raise CheckpointError(f"{file}: no model can be built from it: {wrong[0]} is out of range")
    try:
        with torch.device("meta"):
            return Chameleon(ChameleonConfig.from_dict(told | {"vq_config": vq}))
    except Exception as error:  # whatever goes wrong while building from a config is the config's fault
        raise CheckpointError(f"{file}: no model can be built from it: {' '.join(str(error).split())}") from error


def _within(value: Any, most: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most)


def read_companions(folder: Path) -> dict[str, bytes]:
    """Tokenizer, processor and generation files, byte for byte: saving writes them back unchanged."""
    return {name: _content(folder / name) for name in COMPANIONS if (folder / name).is_file()}


def read_weights(
    folder: Path,
    frame: Chameleon,
    dtype: torch.dtype,
    places: Mapping[str, Any],
    quantization: BitsAndBytesConfig | None = None,
    other_vq: bool = False,
) -> Chameleon:
    """`frame` with the folder's weights: the language model in `dtype` or quantized, the VQ module in fp32.

    `places` has a device for each part by its name, "" for the whole. With `other_vq` the folder may lack tensors of
    the VQ module: they are read from elsewhere.
    """
    wanted = {name: list(tensor.shape) for name, tensor in frame.state_dict().items()}
    _check_tensors(folder, wanted, {name for name in wanted if other_vq and name.startswith(VQ)})
    state: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        with safe_open(file, "pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}
    # Given the folder, upstream would also look into it for adapters, generation settings and the index.
    return Chameleon.from_pretrained(
        None,
        config=frame.config,
        state_dict=state,
        dtype=dtype,
        device_map=dict(places),
        quantization_config=quantization,
    )


def write(
    folder: Path,
    model: Chameleon,
    raw: dict[str, Any],
    companions: dict[str, bytes],
    dtype: str | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the published layout. `dtype` stores the language model in another precision; the VQ keeps fp32. Given a
    `state`, its tensors are written, not the model's own.

    Weights are written beside their place and moved there when whole; config.json goes last. Raises CheckpointError,
    before anything is written, for a model whose weights are quantized or not all at hand.
    """
    if getattr(model, "hf_quantizer", None) is not None:
        raise CheckpointError(f"{folder}: quantized weights are no published checkpoint; load without quantize to save")
    tensors = model.state_dict() if state is None else state
    if any(weight.is_meta for weight in tensors.values()):
        raise CheckpointError(f"{folder}: weights are offloaded; load on one device to save")
    stored = torch_dtype(dtype) if dtype else tensors["lm_head.weight"].dtype
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(
        folder,
        {
            name: tensor.detach().to(torch.float32 if name.startswith(VQ) else stored).contiguous()
            for name, tensor in tensors.items()
        },
    )
    for name, content in companions.items():
        write_atomic(folder / name, content)
    config = {key: value for key, value in raw.items() if key != "dtype"}  # transformers 5's name of torch_dtype
    config |= {
        "architectures": ["ChameleonForConditionalGeneration"],
        "torch_dtype": str(stored).removeprefix("torch."),
        # Where transformers 5 has written the config before, the original's names for these are gone.
        "rope_theta": model.config.to_dict()["rope_parameters"]["rope_theta"],
        "rope_scaling": raw.get("rope_scaling"),
    }
    write_atomic(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")


def _write_weights(folder: Path, state: dict[str, Tensor]) -> None:
    with writing(folder / WEIGHTS), tempfile.TemporaryDirectory(dir=folder, prefix=SAVING) as work:
        try:
            save_torch_state_dict(state, work, max_shard_size="5GB", metadata={"format": "pt"})
        except SafetensorError as error:  # its writer does not raise OSError
            raise InputError(f"cannot be written: {error}", file=folder / WEIGHTS) from error
        written = sorted(os.listdir(work), key=lambda name: name == INDEX)  # the index after its shards
        for name in written:
            os.chmod(os.path.join(work, name), 0o644)  # safetensors makes its files private
            files.sync(Path(work, name))
            os.replace(os.path.join(work, name), folder / name)
        for old in [*folder.glob("model-*-of-*.safetensors"), folder / WEIGHTS, folder / INDEX]:
            if old.name not in written:
                old.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed in `write` left in a folder."""
    for left in folder.glob(f"{SAVING}*"):
        shutil.rmtree(left)
    files.remove_unfinished(folder)


def torch_dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"'{name}' is not one of {', '.join(DTYPES)}", field="dtype")
    return DTYPES[name]


def read_into(folder: Path, model: Chameleon) -> None:
    """Put a checkpoint's language model into a model that has it. Raises CheckpointError where it does not fit."""
    own = model.state_dict()
    wanted = {name: list(tensor.shape) for name, tensor in own.items() if not name.startswith(VQ)}
    for file in _weight_files(folder):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                if name in wanted:
                    if tensors.get_slice(name).get_shape() != wanted.pop(name):
                        raise CheckpointError(f"{file}: tensor {name} has another shape than the model's")
                    own[name].copy_(tensors.get_tensor(name))
    if wanted:
        raise CheckpointError(f"{folder}: tensor {next(iter(wanted))} is missing ({len(wanted)} in all)")


def read_vq(folder: Path, model: Chameleon) -> None:
    """Put the VQ module of another checkpoint into a model. Raises CheckpointError where it does not fit."""
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name.startswith(VQ)}
    state: dict[str, torch.Tensor] = {}
    for file in _weight_files(folder):
        for name, shape in _header(file).items():
            if name in wanted and shape != wanted[name]:
                raise CheckpointError(f"{file}: tensor {name} has shape {shape}, expected {wanted[name]}")
        with safe_open(file, "pt") as tensors:
            state |= {name: tensors.get_tensor(name).float() for name in tensors.keys() if name in wanted}
    missing = [name for name in wanted if name not in state]
    if missing:
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing ({len(missing)} in all)")
    model.load_state_dict(state, strict=False)


def _check_tensors(folder: Path, wanted: dict[str, list[int]], optional: Set[str]) -> None:
    """Compare names and shapes in the files with the wanted ones."""
    found: dict[str, Path] = {}
    for file in _weight_files(folder):
        for name, shape in _header(file).items():
            if name not in wanted:
                raise CheckpointError(f"{file}: tensor {name} has no place in this model")
            if name in found:
                raise CheckpointError(f"{file}: tensor {name} is in {found[name].name} too")
            if shape != wanted[name]:
                raise CheckpointError(f"{file}: tensor {name} has shape {shape}, expected {wanted[name]}")
            found[name] = file
    missing = [name for name in wanted if name not in found and name not in optional]
    if missing and not any(name.startswith(DECODER) for name in found):
        raise CheckpointError(f"{folder}: no {DECODER}* tensors, so this checkpoint cannot draw images")
    if missing:
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing ({len(missing)} in all)")


def _header(file: Path) -> dict[str, list[int]]:
    """Shape by tensor name. Raises CheckpointError for a file that is none, or a tensor that is not of real numbers."""
    try:
        if not file.is_file():
            raise FileNotFoundError
        with open(file, "rb") as start:
            length = int.from_bytes(start.read(8), "little")
        if length > MAX_HEADER:  # or the file is of another kind, and these bytes mean something else
            raise CheckpointError(f"{file}: not a readable safetensors file: a header of {length:,} bytes")
        with safe_open(file, "pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}
            shapes = {name: one.get_shape() for name, one in slices.items()}
            kinds = {name: one.get_dtype() for name, one in slices.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing") from None
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise CheckpointError(f"{file}: not a readable safetensors file: {error}") from error
    for name, kind in kinds.items():
        if kind not in NUMBERS:
            raise CheckpointError(f"{file}: tensor {name} is of type {kind}")
    return shapes


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(_json(index)["weight_map"].values()))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index}: not a weight index: {error}") from error
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or len(name) > 255:
                raise CheckpointError(f"{index}: shard {str(name)[:200]!r} is not a plain file name")
        return [folder / name for name in names]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise CheckpointError(f"{folder}: only pickled weights ({pickles[0]}); convert them to safetensors first")
    raise CheckpointError(f"{folder}: no {WEIGHTS}")
