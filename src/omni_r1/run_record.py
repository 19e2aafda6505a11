"""What every run leaves beside its results, and how long work shows itself."""

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

PACKAGES = ("omni-r1", "torch", "transformers", "accelerate", "numpy", "pillow")


def _commit() -> str | None:
    """The commit of the checkout this code runs from, with `+` where files were changed; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):
            return None  # installed inside somebody else's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
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
        "versions": {package: _version(package) for package in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def progress(total: int, unit: str, description: str) -> tqdm:
    """A bar on stderr with rate and time left."""
    return tqdm(total=total, unit=unit, desc=description, dynamic_ncols=True, smoothing=0.1)
