"""Omni-R1: interleaved text and image reasoning with models of the Chameleon family.

`omni_r1.load` is the way in. Nothing here imports torch until it is called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omni_r1.model import Omni
    from omni_r1.model.placement import MaxMemory
    from omni_r1.options import Quantize

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    path: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    max_memory: "MaxMemory" = None,
    quantize: "Quantize | None" = None,
    revision: str | None = None,
) -> "Omni":
    """Load a checkpoint in the published layout; see `omni_r1.model.load`."""
    from omni_r1.model import load as load_checkpoint

    return load_checkpoint(
        path, device=device, dtype=dtype, max_memory=max_memory, quantize=quantize, revision=revision
    )
