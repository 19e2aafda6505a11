"""Whether two expressions are equal: exact arithmetic and a few points first, sympy in a killable process last.

The process keeps sympy loaded and forks a child for each question, which is killed after `TIME_LIMIT` seconds. It
belongs to the process that started it: a forked child starts its own. No signal is used in the caller's process, so any
thread may ask.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from fractions import Fraction
from pathlib import Path

from omni_r1.errors import OmniError
from omni_r1.perpo.grading.evaluate import exact, numeric
from omni_r1.perpo.grading.expressions import Tree, symbols
from omni_r1.perpo.grading.normal_form import same_form

TIME_LIMIT = 1.5  # seconds a question may take, so that an answer is graded within 2
GRACE = 2.0  # seconds more for the process to say that time is up, before it is killed and replaced itself
START_LIMIT = 60.0  # seconds for the interpreter and sympy to load, on a machine under load
WORKER = Path(__file__).with_name("algebra_worker.py")
INFINITE = repr(("const", "oo"))
POINTS = (1.3719, 0.7283, 2.1137, -0.6191, -1.8423)
NEAR = 1e-7  # two values in floating point that differ by more, relative, are different numbers


class AlgebraError(OmniError):
    """The algebra process does not start: the installation is broken, which is no verdict on an answer."""


HARD, EASY = TIME_LIMIT, TIME_LIMIT / 100  # what an undecided and a decided question take from the allowance
# Seconds of algebra left to the grade under way; a list, so that a whole list of hard elements shares one allowance.
allowance: ContextVar[list[float] | None] = ContextVar("allowance", default=None)


class _Worker:
    """One process, one question at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        # -P: this folder must not come first on the worker's path. Unbuffered: a fork copies no half-written line.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.ready = False

    def line(self, seconds: float) -> str | None:
        """The next line; None where none came in time. Raises EOFError where the process has ended."""
        assert self.process.stdout is not None
        poll, got, deadline = select.poll(), b"", time.monotonic() + seconds
        poll.register(self.process.stdout, select.POLLIN)
        while not got.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                raise EOFError
            got += more
        return got.decode().strip()

    def ask(self, one: Tree, other: Tree, positive: bool, seconds: float) -> str | None:
        """The verdict, None where none came; loading sympy takes nothing from the time."""
        assert self.process.stdin is not None
        if not self.ready:
            if self.line(START_LIMIT) != "ready":
                raise EOFError
            self.ready = True
        question = json.dumps([one, other, positive, seconds]).encode() + b"\n"
        while question:
            question = question[self.process.stdin.write(question) :]
        return self.line(seconds + GRACE)

    def close(self) -> None:
        """End the process and leave no zombie."""
        self.process.kill()
        self.process.wait()
        self.drop()

    def drop(self) -> None:
        """Let go of a process that is another's child: its pipes must not be held open here."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        if self.process.returncode is None:
            self.process.returncode = 0  # or its finaliser would wait for what is not ours


_lock = threading.Lock()
_worker: _Worker | None = None


def _after_fork() -> None:
    global _lock, _worker
    _lock = threading.Lock()  # the parent's may be held by a thread that does not exist here
    if _worker is not None:
        _worker.drop()
        _worker = None


def close() -> None:
    """End the algebra process, if there is one; the next question starts another."""
    global _worker
    with _lock:
        if _worker is not None and _worker.owner == os.getpid():
            _worker.close()
        _worker = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)


def _ask(one: Tree, other: Tree, positive: bool, seconds: float) -> str:
    """The worker's verdict; it is started where needed, and replaced where it hangs or has died."""
    global _worker
    with _lock:
        for last_try in (False, True):
            if _worker is None:
                _worker = _Worker()
            try:
                verdict = _worker.ask(one, other, positive, seconds)
            except (EOFError, BrokenPipeError):
                loaded = _worker.ready
                _worker.close()
                _worker = None
                if last_try and not loaded:
                    raise AlgebraError("the algebra process does not start: is sympy installed?") from None
                if last_try:
                    return "the algebra process died on it"
                continue  # it may have been killed before this question came
            if verdict is None:
                _worker.close()
                _worker = _Worker()  # loads while the caller goes on
                return f"not decided in {seconds:.1f} s"
            return verdict
    raise AssertionError("unreachable")


def _differ_somewhere(one: Tree, other: Tree, names: list[str]) -> tuple[bool, bool]:
    """Whether a point tells the two apart, and whether only positive variables give both a real value."""
    only_positive = bool(names)
    for turn, point in enumerate(POINTS):
        at = {name: point + 0.2347 * i * (turn + 1) * (1 if point > 0 else -1) for i, name in enumerate(names)}
        left, right = numeric(one, at), numeric(other, at)
        if left is None or right is None:
            continue
        if point < 0 and (abs(left.imag) > NEAR or abs(right.imag) > NEAR):
            continue  # outside the domain of one side
        only_positive &= point > 0
        if abs(left - right) > NEAR * max(abs(left), abs(right), 1e-9):
            return True, False
    return False, only_positive


def equal(one: Tree, other: Tree) -> tuple[bool, str]:
    """Whether two trees have the same value, and why. Raises TooLarge beyond the limits, AlgebraError."""
    if one == other:
        return True, "the same expression"
    values: list[Fraction | None] = []
    for tree in (one, other):
        try:
            values.append(exact(tree))
        except ZeroDivisionError:
            return False, "a division by zero"
    if None not in values:
        return values[0] == values[1], "compared as exact numbers"
    if INFINITE in repr((one, other)):  # no arithmetic with it
        return False, "another value"
    names = sorted(symbols(one) | symbols(other))
    differ, only_positive = _differ_somewhere(one, other, names)
    if differ:
        return False, "another value"
    if same_form(one, other):
        return True, "equal once multiplied out"
    left = allowance.get()
    seconds = TIME_LIMIT if left is None else left[0]
    if seconds <= 0:
        return False, "no time left to decide"
    verdict = _ask(one, other, only_positive, seconds)
    if left is not None:
        left[0] -= HARD if verdict.startswith("not decided") else EASY
    if verdict == "equal":
        return True, "equal by algebra"
    return False, "not equal by algebra" if verdict == "different" else f"equality not shown ({verdict})"
