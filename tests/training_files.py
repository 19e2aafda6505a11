"""What a training run leaves, looked at from outside."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from omni_r1.files import AppendLog
from omni_r1.pesft import checkpoints
from omni_r1.trajectory import Image, Text, plain
from tiny import CODES, SIDE

SPEEDS = {"tokens_per_second", "peak_memory_bytes", "train_runtime"}
SPEEDS |= {"train_samples_per_second", "train_steps_per_second", "step_time"}
SPEEDS |= {f"seconds/{phase}" for phase in ("rollout", "reward", "refresh", "log_probs", "updates")}
# Files with times, speeds or digests of such in them; and torch's, but for those of the newest checkpoint.
OTHER = {"run.json", "README.md", "log.jsonl", "trainer_state.json", "manifest.json", "sums_0.json"}
OTHER |= {"optimizer.pt", "scheduler.pt", "rng_state.pth"}


def write_rows(path: Path, count: int) -> Path:
    draw = np.random.default_rng(0)
    with path.open("w") as out:
        for row in range(count):
            image = Image(tuple(draw.integers(CODES, size=SIDE * SIDE).tolist()))
            out.write(json.dumps(plain([Text("Look. " * (row % 3 + 1))], [Text("See: "), image], str(row)).to_json()))
            out.write("\n")
    return path


def rows_of(log: Path) -> list[dict[str, Any]]:
    """The rows of a log but for times, speeds and memory."""
    with AppendLog(log) as opened:
        return [{key: value for key, value in row.items() if key not in SPEEDS} for row in opened.rows]


def whole_checkpoints(output: Path) -> list[Path]:
    """Those that are listed. Raises InputError where one is not what was saved."""
    found = checkpoints.whole(output / "steps")
    for place in found:
        assert checkpoints.find(str(place), output / "steps") == place
    return found


def differences(one: Path, two: Path) -> list[str]:
    """What differs between two runs that ended: files of the checkpoint, of the newest resumable one, log rows."""
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in (one, two)]
    found = [] if names[0] == names[1] else [f"files: {set(names[0]) ^ set(names[1])}"]
    states = {str(path.relative_to(one)) for path in whole_checkpoints(one)[-1].rglob("*.pt*")}
    for name in {*names[0]} & {*names[1]}:
        if name.endswith(".safetensors"):
            same = equal(tensors_of(one / name), tensors_of(two / name))
        elif name in states:  # written by this very test, pickles as they are
            same = equal(*(torch.load(run / name, weights_only=False) for run in (one, two)))
        else:
            same = Path(name).name in OTHER or (one / name).read_bytes() == (two / name).read_bytes()
        if not same:
            found.append(name)
    if rows_of(one / "log.jsonl") != rows_of(two / "log.jsonl"):
        found.append("log.jsonl")
    return found


def tensors_of(file: Path) -> dict[str, Any]:
    """Tensors and metadata; the order of the metadata in the file is nobody's choice."""
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()} | {"": opened.metadata()}


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor | np.ndarray):
        return type(one) is type(two) and bool((torch.as_tensor(one) == torch.as_tensor(two)).all())
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two
