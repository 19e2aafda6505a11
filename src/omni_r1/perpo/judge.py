"""Reads what a checkpoint lends to scoring: its codebook, and what PeSFT has left beside its weights."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from omni_r1.errors import InputError
from omni_r1.files import read_bytes
from omni_r1.model import CheckpointError, Omni, checkpoint
from omni_r1.perpo.reward import Band, Judge
from omni_r1.pesft.band import BAND
from omni_r1.pesft.saving import PERCEPTION

ALIGNMENTS = ("next", "same")


def load_judge(omni: Omni, path: str | Path) -> Judge:
    """The judge of a checkpoint loaded from `path` (folder, hub id or `miniature`), with the band and the projection
    that lie beside its weights, where they do.

    Raises CheckpointError or InputError, naming the file, for one that cannot be used with this checkpoint.
    """
    folder = checkpoint.locate(path)
    codebook = omni.model.model.vqmodel.quantize.embedding.weight.detach().cpu().float()
    band = read_band(folder / BAND) if (folder / BAND).exists() else None
    if not (folder / PERCEPTION).exists():
        return Judge(omni.vocabulary, codebook, band)
    shape = codebook.shape[1], omni.model.config.hidden_size
    projection, alignment = read_projection(folder / PERCEPTION, shape)
    return Judge(omni.vocabulary, codebook, band, projection, "same" if alignment == "same" else "next")


def read_band(file: Path) -> Band:
    try:
        data = json.loads(read_bytes(file))
        if not isinstance(data, dict):
            raise InputError("is no object")
        return Band.from_json(data)
    except InputError as error:
        raise InputError(error.message, file=file, field=error.field) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", file=file) from error


def read_projection(file: Path, shape: tuple[int, int]) -> tuple[nn.Linear, str]:
    """PeSFT's projection, of `shape` (D, H), frozen, and its alignment."""
    try:
        with safe_open(file, "pt") as stored:
            alignment = (stored.metadata() or {}).get("alignment")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error
    wanted = {"weight": shape, "bias": shape[:1]}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != wanted:
        raise CheckpointError(f"{file}: has no weight of {shape} and bias of {shape[:1]}")
    if alignment not in ALIGNMENTS:
        raise CheckpointError(f"{file}: its alignment is {alignment!r}, not one of {', '.join(ALIGNMENTS)}")
    projection = nn.Linear(shape[1], shape[0])
    with torch.no_grad():
        projection.weight.copy_(tensors["weight"])
        projection.bias.copy_(tensors["bias"])
    return projection.requires_grad_(False), alignment
