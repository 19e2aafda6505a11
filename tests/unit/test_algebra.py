"""Expressions: what the parser reads and refuses, and the process that may be killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from grading_child import in_child
from omni_r1.perpo.grading import algebra, grade
from omni_r1.perpo.grading.evaluate import exact
from omni_r1.perpo.grading.expressions import NotAnExpression, TooLarge, parse
from omni_r1.perpo.grading.normal_form import same_form

NEEDS_SYMPY = (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14),
        ("-2^2", -4),
        ("2^3^2", 512),
        ("6/2/3", 1),
        ("2(3+4)", 14),
        (r"\frac12", Fraction(1, 2)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        ("5!/3!", 20),
        ("√9", 3),
        ("|2-5|", 3),
        ("1.5e2", 150),
        ("-(-(3))", 3),
        ("2--3", 5),
        ("√[3]{-8}", -2),
        ("x", None),
        ("√2", None),
    ],
)
def test_exact(text, value):
    assert exact(parse(text)) == value


@pytest.mark.parametrize("text", ["", "1 2", "blue", "2+", "(1", ")(", "1..2", "@", "a=b", "^2", "()", "\\frac{1}"])
def test_no_expression(text):
    with pytest.raises(NotAnExpression):
        parse(text)


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "99999999!", "10^10^8", "(x+1)**99999", "2^99999", "9!!" + "^9" * 20, "x" + "^x" * 99]
)
def test_bombs_are_refused_at_once(text):
    began = time.monotonic()
    with pytest.raises((TooLarge, NotAnExpression)):
        exact(parse(text))
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("√8", "2√2", True),
        ("√2/2", "1/√2", True),
        ("(x+1)^3", "x^3+3x^2+3x+1", True),
        ("π/2", "0.5π", True),
        ("i^2", "-1", True),
        ("x/x^2", "1/x", True),
        ("√x √x", "x", True),
        ("√(x^2)", "x", False),
        ("(-8)^(2/3)", "4", False),
        ("√(x y)", "√x √y", False),
        ("ln 8", "3 ln 2", True),
        ("0^0", "1", True),
    ],
)
def test_normal_form(one, other, same):
    assert same_form(parse(one), parse(other)) is same


def test_sympy_decides_what_is_left():
    assert grade(*NEEDS_SYMPY).correct
    assert grade("sin^2(x)+cos^2(x)", "1").correct
    assert grade(r"\frac{x^2-1}{x-1}", "x+1").correct
    assert not grade(r"\sqrt{x^2}", "x").correct


# Equal wherever it is looked at, and nothing that expanding or simplifying shows in time.
ENDLESS = (r"(\sin(x)+\cos(y)+z)^{400}", r"(2\sin(x/2)\cos(x/2)+\cos(y)+z)^{400}")  # 80,000 terms


def test_a_late_question_is_killed():
    assert grade(*NEEDS_SYMPY).correct
    process = algebra._worker.process
    for _ in range(2):
        began = time.monotonic()
        verdict = grade(*ENDLESS)
        assert not verdict.correct and "not decided" in verdict.reason
        assert time.monotonic() - began < 2.5
    assert grade(*NEEDS_SYMPY).correct
    assert algebra._worker.process is process
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    assert not children.exists() or children.read_text().split() == []


def test_a_process_that_hangs_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr(algebra, "GRACE", 0.3)
    assert grade(*NEEDS_SYMPY).correct
    hung = algebra._worker.process
    os.kill(hung.pid, signal.SIGSTOP)
    assert "not decided" in grade(*NEEDS_SYMPY).reason
    assert hung.returncode is not None  # waited for: no zombie
    assert grade(*NEEDS_SYMPY).correct
    assert algebra._worker.process is not hung


def test_a_process_that_died_is_replaced():
    assert grade(*NEEDS_SYMPY).correct
    algebra._worker.process.kill()
    algebra._worker.process.wait()
    assert grade(*NEEDS_SYMPY).correct


def test_threads_share_it():
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda _: grade(*NEEDS_SYMPY).correct, range(12)))
    assert all(verdicts)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_have_their_own(method):
    assert grade(*NEEDS_SYMPY).correct
    mine = algebra._worker.process.pid
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=in_child, args=(queue, NEEDS_SYMPY)) for _ in range(2)]
    held = threading.Thread(target=lambda: [grade(*NEEDS_SYMPY) for _ in range(20)])
    held.start()
    for child in children:
        child.start()
    assert [queue.get(timeout=90) for _ in children] == [(True, True)] * 2
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    held.join()
    assert algebra._worker.process.pid == mine
    assert grade(*NEEDS_SYMPY).correct


def test_an_interpreter_ends_with_it_and_leaves_none():
    program = (
        "from omni_r1.perpo.grading import algebra, grade\n"
        f"assert grade({NEEDS_SYMPY[0]!r}, {NEEDS_SYMPY[1]!r}).correct\n"
        "print(algebra._worker.process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=True)
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_the_process_loads_no_torch():
    program = (
        "import sys, runpy; sys.modules['torch'] = sys.modules['omni_r1'] = None; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    question = '[["num", 1, 1], ["num", 1, 1], false, 1]\n'
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(algebra.WORKER)],
        input=question,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.stdout.split() == ["ready", "equal"]
