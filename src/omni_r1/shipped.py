"""The miniature that comes with the package: where its checkpoints and its bench lie."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
MODEL, CONTROL, BENCH = ASSETS / "model", ASSETS / "control", ASSETS / "bench.parquet"
