"""What a run that goes on must have in common with the run before: whatever decides a number.

Free are the options in FREE, the place of the data as long as its bytes are the same, and at a constant rate a larger
`num_train_epochs` or `max_steps`: with other schedules the steps that are done would have had other rates.
"""

import json
from pathlib import Path
from typing import Any

from omni_r1.errors import InputError
from omni_r1.files import read_bytes, sha256, write_atomic
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.run_record import describe_run

# When something is written or told, and where; and what is kept or computed twice, with the same numbers.
FREE = {"output_path", "train_data", "json_dir", "resume_from_checkpoint", "report_to", "push_to_hub", "hub_private"}
FREE |= {"gradient_checkpointing", "save_steps", "logging_steps", "sample_steps", "max_drift"}
LENGTH = ("num_train_epochs", "max_steps")
CONSTANT = ("constant", "constant_with_warmup")


def describe(options: PesftOptions | PerpoOptions, data: Path, processes: int) -> dict[str, Any]:
    """The content of `run.json`. `data` is a file that fixes the rows: the file of them, or a folder's manifest."""
    return {**describe_run(options, options.seed), "data_sha256": sha256(data), "processes": processes}


def write(file: Path, record: dict[str, Any]) -> None:
    write_atomic(file, json.dumps(record, indent=1) + "\n")


def check(file: Path, record: dict[str, Any]) -> None:
    """Raises InputError naming what a run differs in from the one it is to go on from, whose record is `file`."""
    try:
        before = json.loads(read_bytes(file))
        options, data, processes = (before[key] for key in ("options", "data_sha256", "processes"))
        differing = [key for key, value in record["options"].items() if options.get(key, value) != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no record of the run that is to go on: {getattr(error, 'strerror', None) or error}"
        raise InputError(reason, file=file, field="resume_from_checkpoint") from error
    asked = record["options"]  # a warm-up that is a share of the run's length is another in a longer one
    constant = asked["lr_scheduler_type"] in CONSTANT and not asked.get("warmup_ratio")
    free = FREE | ({"mode"} if "json_dir" in asked else set())  # PeSFT's lays out rows, which are compared below
    for name in differing:
        value = record["options"][name]
        longer = constant and name in LENGTH and 0 < options[name] < value
        if name not in free and not longer:
            raise InputError(f"was {options[name]!r} in the run that is to go on, not {value!r}", file=file, field=name)
    if data != record["data_sha256"]:
        raise InputError("other rows than in the run that is to go on", file=file, field="train_data")
    if processes != record["processes"]:
        raise InputError(f"was of {processes} processes, not {record['processes']}", file=file)
