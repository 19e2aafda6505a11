"""Questions to reinforce the smallest checkpoint on, and a run's words and options for it."""

import json
from pathlib import Path

from tiny import CODES, SIDE

GOLD = "a"
# Small in everything, and a reward that an untrained model gets now and then: for a whole image.
SETTINGS = {
    "profile": "paper",
    "filter_metric": "reward",
    "train_batch_size": 4,
    "mini_batch_size": 2,
    "gen_batch_size": 4,
    "max_gen_batches": 2,
    "group_size": 4,
    "per_device_train_batch_size": 4,
    "max_new_tokens": 32,
    "learning_rate": 1e-3,
    "top_p": 1.0,
    "use_cpu": True,
}


def write_questions(path: Path, count: int = 10) -> Path:
    """Each with a picture of its own, the first without."""
    lines = []
    for row in range(count):
        picture = {"image": [(row * code) % CODES for code in range(SIDE * SIDE)]}
        prompt = [{"text": f"What is {row}?"}, *([picture] if row else []), {"text": "\n"}]
        response = [{"text": f"\nFinal Answer: {GOLD}"}]
        lines.append(json.dumps({"prompt": prompt, "response": response, "ended": True}))
    path.write_text("\n".join(lines) + "\n")
    return path


def words_of(model: Path, rows: Path, output: Path | None, **changed: object) -> list[str]:
    """The command line, of SETTINGS as they are or as they are changed."""
    settings = {"model_path": model, "train_data": rows, "output_path": output, **SETTINGS, **changed}
    words = ["perpo"]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [] if value is None else [flag, str(value)]
    return words


def log_of(output: Path) -> list[dict]:
    """The rows of its steps."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]
