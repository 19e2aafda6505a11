"""The process that asks sympy whether two trees are equal; `algebra.py` starts it as a script and may kill it.

It imports nothing of this project, so that it starts fast. A line of JSON in, `[tree, tree, positive, seconds]`; a line
out: equal, different, unknown or not decided.
"""

import json
import math
import os
import resource
import select
import signal
import sys
from typing import Any

import sympy

MEMORY = 4 << 30  # bytes of address space
POINTS = ("37/29", "53/31", "11/23", "-17/13")
DIGITS = 40

_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}
_FUNCTIONS = {
    **{name: getattr(sympy, name) for name in "sin cos tan cot sec csc sinh cosh tanh exp asin acos atan".split()},
    "ln": sympy.log,
    "abs": sympy.Abs,
}


def build(tree: list[Any], names: dict[str, sympy.Symbol]) -> sympy.Expr:
    """A sympy expression of a tree as `expressions.py` makes them; variables are real, or positive where told so."""
    head, *parts = tree
    if head == "num":
        return sympy.Rational(*parts)
    if head == "sym":
        return names[parts[0]]
    if head == "const":
        return _CONSTANTS[parts[0]]
    values = [build(part, names) for part in parts]
    if head == "+":
        return sympy.Add(*values)
    if head == "*":
        return sympy.Mul(*values)
    if head == "/":
        return values[0] / values[1]
    if head == "^":
        return values[0] ** values[1]
    if head == "neg":
        return -values[0]
    if head == "!":
        return sympy.factorial(values[0])
    if head == "root":
        return sympy.real_root(*values) if values[0].is_negative else sympy.root(*values)
    if head == "log":
        return sympy.log(values[0]) / sympy.log(values[1])
    return _FUNCTIONS[head](values[0])


def variables(tree: list[Any]) -> set[str]:
    if tree[0] == "sym":
        return {tree[1]}
    return set().union(*(variables(part) for part in tree[1:] if isinstance(part, list)))


def compare(one: list[Any], other: list[Any], positive: bool) -> str:
    kind = {"positive": True} if positive else {"real": True}
    names = {name: sympy.Symbol(name, **kind) for name in sorted(variables(one) | variables(other))}
    left, right = build(one, names), build(other, names)
    if left == right:
        return "equal"
    difference = left - right
    for shift, point in enumerate(POINTS[: 3 if positive else 4]):
        at = {
            symbol: sympy.Rational(point) + sympy.Rational(i * (shift + 2), 7)
            for i, symbol in enumerate(names.values())
        }
        value = sympy.N(difference.subs(at), DIGITS)
        scale = 1 + abs(sympy.N(left.subs(at), DIGITS))
        if value.is_number and value.is_finite and bool(abs(value) > scale * sympy.Float("1e-25")):
            return "different"
    for step in (sympy.expand, sympy.simplify, lambda x: sympy.simplify(sympy.expand_log(x.rewrite(sympy.exp)))):
        if step(difference) == 0:
            return "equal"
    return "unknown"


def answer(one: list[Any], other: list[Any], positive: bool, seconds: float) -> str:
    """The verdict of a forked child, which is killed after the given time; sympy stays loaded here."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(math.ceil(seconds) + 1)  # should this process be killed meanwhile
        try:
            verdict = compare(one, other, positive)
        except Exception as error:  # whatever sympy raises on an odd expression is told, and is no equality
            verdict = f"unknown: {type(error).__name__}"
        os.write(writing, verdict.encode())
        os._exit(0)
    os.close(writing)
    in_time = select.select([reading], [], [], seconds)[0]
    verdict = os.read(reading, 4096).decode() if in_time else f"not decided in {seconds:.1f} s"
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return verdict or "unknown: it ran out of memory"


def main() -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    warm_up = ["+", ["^", ["sin", ["sym", "x"]], ["num", 2, 1]], ["^", ["cos", ["sym", "x"]], ["num", 2, 1]]]
    compare(warm_up, ["num", 1, 1], False)  # sympy loads much of itself at its first simplification
    print("ready", flush=True)
    while line := sys.stdin.readline():
        print(answer(*json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
