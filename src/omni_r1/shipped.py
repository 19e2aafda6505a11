"""The miniature that comes with the package: where its checkpoints and its bench lie."""

from pathlib import Path

from omni_r1.options import SHIPPED

ASSETS = Path(__file__).parent / "assets"
MODEL, CONTROL, BENCH = ASSETS / "model", ASSETS / "control", ASSETS / "bench.parquet"


def checkpoint_path(path: str) -> str:
    """The path of a checkpoint, where `miniature` stands for the shipped one."""
    return str(MODEL) if path == SHIPPED else path
