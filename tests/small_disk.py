"""A disk that can really be full."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], object]]:
    """A tmpfs of that size at `folder`, which is made; gives what makes it another size. Skips where none may be."""
    folder.mkdir()

    def mount(options: str, *more: str) -> subprocess.CompletedProcess:
        return subprocess.run(["mount", *more, "-o", options, str(folder)], capture_output=True, text=True)

    try:
        mounted = mount(f"size={size}", "-t", "tmpfs", "tmpfs")
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield lambda wanted: mount(f"remount,size={wanted}").check_returncode()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
