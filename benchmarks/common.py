"""What the benchmarks share: shapes of language models, memory of this process, what a run was made with."""

import re
from pathlib import Path
from typing import Any

import torch

from omni_r1.model import Omni, checkpoint
from omni_r1.vocabulary import Vocabulary

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only

SEVEN = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
MIDDLE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}


def resident(name: str) -> int:
    """Bytes: VmRSS, resident now, or VmHWM, the most since `forget_peak`."""
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) * 1024


def forget_peak() -> None:
    CLEAR.write_text("5")


def random_omni(folder: Path, device: str, dtype: str) -> Omni:
    """Random weights of the shape that the files of `folder` tell, made on the device and never in the CPU's memory."""
    raw = checkpoint.read_config(folder)
    model = checkpoint.skeleton(raw, folder / "config.json")
    torch.nn.Module.to(model, checkpoint.DTYPES[dtype])
    model.to_empty(device=device)
    model.init_weights()
    return Omni(model.eval(), Vocabulary.from_checkpoint(folder), raw, {})


def made_with(run: dict[str, Any]) -> str:
    """Versions, commit and day of a run, as `describe_run` has them, in a line."""
    versions = [f"{name} {number}" for name, number in run["versions"].items() if number]
    return ", ".join([*versions, f"commit {(run['commit'] or 'unknown')[:8]}", run["started"][:10]])
