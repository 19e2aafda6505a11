"""A process that has imported everything and loaded the model, and forks a child for each attempt at a training verb.

As `fork_server.py`, whose other end it has too; but here children train, die and run out of room inside upstream's
writers as well. What a child was doing when it ended is left in memory that it shares with its parent.
"""

import gc
import importlib
import json
import mmap
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faulty
from fork_server import Server, ended, ready_to_fork, say_into, verb

SAVERS = ("torch.save", "safetensors")  # upstream's writers as operations
GROWING = sorted({*faulty.GROWING, *SAVERS})
ROOM = 1 << 15  # bytes of a note in the shared memory


class Ended(NamedTuple):
    """How an attempt ended: -9 where it was killed. `doing` is the operation that did not come to its end."""

    code: int
    operations: int
    doing: tuple[str, str] | None
    failed: list[tuple[str, str]]


class TrainingServer(Server):
    """`attempt` runs a verb, pesft or perpo, in a child; `more` are options for the run that warms up."""

    def __init__(self, model: Path, rows: Path, work: Path, verb: str = "pesft", *more: str) -> None:
        super().__init__(__file__, model, rows, work, verb, *more)

    def attempt(
        self,
        words: list[str],
        said: Path,
        *,
        folder: Path,
        kill: tuple[int, str] | None = None,
        aim: str | None = None,
        fail: tuple[int, int, list[str]] | None = None,
        limit: int | None = None,
        delay: float | None = None,
    ) -> Ended:
        """Run `omni-r1 WORDS`; what it prints goes into the file `said`.

        kill, fail: the operation below `folder` to die or to fail at, as `faulty` takes them; aim: words of a path,
        to die at the first operation on it instead where that comes before; limit: the largest file that the system
        lets it write, in bytes; delay: seconds until it is killed.
        """
        order: dict[str, Any] = {"words": words, "said": str(said), "folder": str(folder)}
        order |= {"kill": kill, "aim": aim, "fail": fail, "limit": limit, "delay": delay}
        code, count, doing, failed = json.loads(self.ask(order))
        return Ended(code, count, tuple(doing) if doing else None, [(name, path) for name, path in failed])


class TrainingOperations(faulty.Operations):
    """Also what upstream does below the folder: its writers, the trainer's state, and the removal of folders."""

    def install(self, patch: Callable[[object, str, object], None]) -> None:
        import safetensors.torch
        import torch
        from safetensors import SafetensorError
        from transformers import trainer_callback

        super().install(patch)
        for name in ("unlink", "rmdir"):
            patch(os, name, self._relative(name, getattr(os, name)))
        patch(torch, "save", self._writer("torch.save", torch.save, RuntimeError))
        patch(safetensors.torch, "save_file", self._writer("safetensors", safetensors.torch.save_file, SafetensorError))
        opened = self._by_path("open", open)
        state = lambda path, mode="r", **named: (opened if mode == "w" else open)(path, mode, **named)  # noqa: E731
        patch(trainer_callback, "open", state)

    def _relative(self, name: str, real: Callable) -> Callable:
        """As `shutil.rmtree` calls it: with a name inside an open folder."""

        def called(path, *, dir_fd=None):
            where = Path(path) if dir_fd is None else Path(os.readlink(f"/proc/self/fd/{dir_fd}")) / path
            if dir_fd is None or not where.is_relative_to(self.folder):
                return real(path) if dir_fd is None else real(path, dir_fd=dir_fd)
            return self._call(name, where, lambda: real(path, dir_fd=dir_fd))

        return called

    def _writer(self, name: str, real: Callable, error: type[Exception]) -> Callable:
        def called(content, file, *rest, **named):
            def half() -> None:
                real(content, file, *rest, **named)
                os.truncate(file, os.path.getsize(file) // 2)

            if not Path(file).is_relative_to(self.folder):
                return real(content, file, *rest, **named)
            try:
                return self._call(name, Path(file), lambda: real(content, file, *rest, **named), half)
            except OSError as refused:
                raise error(f"{file}: {refused.strerror}") from None

        return called


def serve(model: str, rows: str, work: str, verb: str, *more: str) -> None:
    ready_to_fork()
    os.fsync = lambda fd: None  # guards against lost power, and only takes time here
    from omni_r1 import run_record
    from omni_r1.cli import main
    from omni_r1.model import load

    run: Any = importlib.import_module(f"omni_r1.{verb}.run")
    run_record._commit = lambda: None
    run_record._version = lambda package: None
    out, sys.stdout = sys.stdout, sys.stderr
    warming = ["--model-path", model, "--train-data", rows, "--output-path", work, "--max-steps", "1", "--use-cpu"]
    assert main([verb, *warming, "--save-steps", "1", *more]) == 0  # whatever is imported late
    sys.stdout = out
    loaded = [load(model) for _ in range(2)]  # perpo has a reference beside its policy
    run.load = lambda *_, **__: loaded.pop()  # of a child's own
    gc.collect()
    gc.freeze()  # upstream collects in every child
    shared = mmap.mmap(-1, 1 + 2 * ROOM)
    for line in sys.stdin:
        order = json.loads(line)
        note(shared, 0, None, [])
        pid = os.fork()
        if not pid:
            os._exit(child(order, shared))
        code = ended(pid, order["delay"])
        print(json.dumps([code, *noted(shared)]), flush=True)


def aimed(words: str, last: int, moment: str) -> faulty.Strike:
    """SIGKILL at the first operation on a path with these words, at the latest at operation `last`."""

    def strike(number: int, name: str, path: Path, do: Callable, half: Callable) -> Any:
        return faulty.killing(number if words in str(path) else last, moment)(number, name, path, do, half)

    return strike


def note(shared: mmap.mmap, count: int, doing: Any, failed: list) -> None:
    """Two notes, and a byte that says which of them holds: a kill while one is being written leaves the other whole."""
    other = 1 - shared[0]
    shared[1 + other * ROOM : 1 + (other + 1) * ROOM] = json.dumps([count, doing, failed]).encode().ljust(ROOM, b"\0")
    shared[0] = other


def noted(shared: mmap.mmap) -> Any:
    """The last note that was written to its end."""
    at = 1 + shared[0] * ROOM
    return json.loads(shared[at : at + ROOM].rstrip(b"\0"))


def child(order: dict[str, Any], shared: mmap.mmap) -> int:
    say_into(order["said"])
    failed: list[tuple[str, Path]] = []
    strike: faulty.Strike = faulty.counting
    if order["aim"]:
        strike = aimed(order["aim"], *order["kill"])
    elif order["kill"]:
        strike = faulty.killing(*order["kill"])
    elif order["fail"]:
        at, code, then = order["fail"]
        strike = faulty.failing(at, code, failed, then)

    def watched(number: int, name: str, path: Path, do: Callable, half: Callable) -> Any:
        told = [(one, str(place)) for one, place in failed]
        note(shared, number, (name, str(path)), told)
        try:
            return strike(number, name, path, do, half)
        finally:
            note(shared, number, None, [(one, str(place)) for one, place in failed[:9]])

    TrainingOperations(Path(order["folder"]), watched).install(setattr)
    if order["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    return verb(order["words"])


if __name__ == "__main__":
    serve(*sys.argv[1:])
