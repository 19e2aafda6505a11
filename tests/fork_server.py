"""A process that has imported everything and loaded the model, and forks a child for each attempt at a verb.

Starting Python, torch and a model takes seconds; a fork takes milliseconds. Run as `python fork_server.py MODEL`;
`ForkServer` is the other end of its pipes.
"""

import faulthandler
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).parent
LIMIT = 300  # seconds for an attempt, which takes some ten on a busy machine: one that hangs says where, and ends


class Server:
    """The test's end of a process that answers each line of JSON with a line."""

    def __init__(self, script: str, *words: object) -> None:
        paths = [str(TESTS.parent / "src"), str(TESTS), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, script, *map(str, words)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    def ask(self, order: dict[str, Any]) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # and what it started, whatever that waits for
        self.process.wait()


class ForkServer(Server):
    """`attempt` runs a verb in a child, and says how it ended."""

    def __init__(self, model: str) -> None:
        super().__init__(__file__, model)

    def attempt(
        self,
        words: list[str],
        said: Path,
        *,
        folder: Path | None = None,
        kill: tuple[int, str, str | None] | None = None,
        delay: float | None = None,
    ) -> int:
        """Exit code of `omni-r1 WORDS`, -9 where it was killed; what it printed goes into the file `said`.

        kill: the operation below `folder` to die at, as `faulty.killing` takes it. delay: after so many seconds.
        """
        order = {"words": words, "said": str(said), "folder": str(folder), "kill": kill, "delay": delay}
        return int(self.ask(order))


def ready_to_fork() -> None:
    """Nothing is shared with a child that a death could leave locked, and no thread runs that could hold a lock."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own lock is one for all processes: who dies with it stops all later ones
    tqdm.monitor_interval = 0  # its thread


def serve(model: str) -> None:
    ready_to_fork()
    from omni_r1.bench import run
    from omni_r1.data import tokenize
    from omni_r1.generate import runner
    from omni_r1.model import load
    from omni_r1.zero import run as zero

    loaded = load(model)
    for module in (runner, run, tokenize, zero):
        module.load = functools.partial(_loaded, loaded, model)  # type: ignore[attr-defined]
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            os._exit(child(order))
        print(ended(pid, order["delay"]), flush=True)


def _loaded(omni: Any, model: str, asked: str, **_: object) -> Any:
    assert asked == model
    return omni


def child(order: dict[str, Any]) -> int:
    from faulty import Operations, killing

    say_into(order["said"])
    if order["kill"]:
        Operations(Path(order["folder"]), killing(*order["kill"])).install(setattr)
    return verb(order["words"])


def say_into(file: str) -> None:
    """What a child prints goes into a file; where it is, too, should it hang."""
    said = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    faulthandler.dump_traceback_later(LIMIT, exit=True)


def verb(words: list[str]) -> int:
    """Exit code of `omni-r1 WORDS`, whatever it raises: the parent's loop must not go on in the child."""
    from omni_r1.cli import main

    try:
        code = main(words)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def ended(pid: int, delay: float | None) -> int:
    """Wait for a child, killing it after `delay` seconds. Only its parent can do so safely: its id is still its own."""
    if delay is not None:
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    serve(sys.argv[1])
