"""File operations under a folder that fail, or that kill the process, at a chosen moment."""

import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from omni_r1 import files

GROWING = {"open", "write", "mkdir"}  # what a full disk refuses; renaming, removing and cutting need no room
BY_HANDLE = ("write", "fsync", "ftruncate")
MOMENTS = ("before", "half", "after")  # of an operation; half of a write is written, of others nothing

Half = Callable[[], object]
Strike = Callable[[int, str, Path, Callable[[], Any], Half], Any]


class Operations:
    """Every operation on a file below `folder` goes through `strike(number, name, path, do, half)`, once installed.

    Numbers count from 1; `do` does it, `half` does half of it where it can be halved. All durable writes of the
    project use these functions of `os`, and `open` in `files` for the log.
    """

    def __init__(self, folder: Path, strike: Strike) -> None:
        self.folder, self.strike, self.count = folder, strike, 0
        self.paths: dict[int, Path] = {}  # of the open files below the folder

    def install(self, patch: Callable[[object, str, object], None]) -> None:
        """`patch(owner, name, value)` is what setattr is; a MonkeyPatch's takes it back."""
        for name in ("mkdir", "unlink", "chmod", "replace"):
            patch(os, name, self._by_path(name, getattr(os, name)))
        for name in BY_HANDLE:
            patch(os, name, self._by_handle(name, getattr(os, name)))
        patch(os, "open", self._by_path("open", os.open, lambda handle: handle))
        patch(os, "close", self._close(os.close))
        patch(files, "open", self._by_path("open", open, lambda file: file.fileno()))

    def _call(self, name: str, path: Path, do: Callable[[], Any], half: Half = lambda: None) -> Any:
        self.count += 1
        return self.strike(self.count, name, path, do, half)

    def _by_path(self, name: str, real: Callable, handle_of: Callable[[Any], int] | None = None) -> Callable:
        def called(path, *rest, **named):
            where = Path(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else None
            if where is None or not (where == self.folder or where.is_relative_to(self.folder)):
                return real(path, *rest, **named)
            result = self._call(name, where, lambda: real(path, *rest, **named))
            if handle_of is not None:
                self.paths[handle_of(result)] = where
            return result

        return called

    def _by_handle(self, name: str, real: Callable) -> Callable:
        def called(handle, *rest):
            where = self.paths.get(handle)
            if where is None:
                return real(handle, *rest)
            half = (lambda: real(handle, rest[0][: len(rest[0]) // 2])) if name == "write" else lambda: None
            return self._call(name, where, lambda: real(handle, *rest), half)

        return called

    def _close(self, real: Callable) -> Callable:
        def called(handle):
            self.paths.pop(handle, None)
            return real(handle)

        return called


def counting(number: int, name: str, path: Path, do: Callable[[], Any], half: Half) -> Any:
    return do()


def killing(at: int, moment: str, written: str | None = None) -> Strike:
    """SIGKILL at operation `at`, at one of MOMENTS. With `written`, only writes to the file of that name count."""
    writes = 0

    def strike(number: int, name: str, path: Path, do: Callable[[], Any], half: Half) -> Any:
        nonlocal writes
        writes += name == "write" and path.name == written
        counts = written is None or (name == "write" and path.name == written)
        if not counts or at != (number if written is None else writes):
            return do()
        try:
            {"before": lambda: None, "half": half, "after": do}[moment]()
        finally:  # making a folder that is there raises, and the run would go on
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


def failing(at: int, code: int, told: list[tuple[str, Path]], then: Collection[str] = ()) -> Strike:
    """OSError `code` at operation `at`, and at later ones named in `then`. Writes are done by half before.

    `told` gets the name and path of each operation that failed.
    """

    def strike(number: int, name: str, path: Path, do: Callable[[], Any], half: Half) -> Any:
        if number < at or (number > at and name not in then):
            return do()
        told.append((name, path))
        half()
        named = [] if name in BY_HANDLE else [str(path)]  # as the system's own errors
        raise OSError(code, os.strerror(code), *named)

    return strike
