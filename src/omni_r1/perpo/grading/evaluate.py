"""What a tree is worth, exactly where that is a rational number, else in floating point at chosen points."""

import cmath
import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from omni_r1.perpo.grading.expressions import TooLarge, Tree

BITS = 16_384  # of an exact value's numerator or denominator
EXPONENT = 400  # of a power whose base is no number
FACTORIAL = 500


def _root(value: int, degree: int) -> int | None:
    """The exact root of a whole number from 0, None if there is none."""
    guess = math.isqrt(value) if degree == 2 else round(value ** (1 / degree)) if value < 1 << 900 else -1
    return next((near for near in (guess - 1, guess, guess + 1) if near >= 0 and near**degree == value), None)


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if base in (0, 1):
        return base if exponent > 0 or base else None
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size * abs(exponent) > BITS:
        raise TooLarge(f"a power of more than {BITS} bits")
    if exponent.denominator > 1:
        if exponent.denominator > 64 or base < 0:
            return None
        top, bottom = _root(base.numerator, exponent.denominator), _root(base.denominator, exponent.denominator)
        if top is None or bottom is None:
            return None
        base = Fraction(top, bottom)
    return base**exponent.numerator


def exact(tree: Tree) -> Fraction | None:
    """The value where it is rational and simple to get; None where it is not. Raises TooLarge, ZeroDivisionError."""
    head, *parts = tree
    if head == "num":
        return Fraction(*parts)
    if head in ("sym", "const") or head not in ("+", "*", "/", "^", "neg", "!", "root", "abs"):
        if head not in ("sym", "const"):
            for part in parts:
                exact(part)  # for its limits
        return None
    values = [exact(part) for part in parts]
    if head == "^" and values[1] is not None and values[0] is None and abs(values[1]) > EXPONENT:
        raise TooLarge(f"an exponent above {EXPONENT}")
    if head == "!" and values[0] is not None and values[0] > FACTORIAL:
        raise TooLarge(f"the factorial of more than {FACTORIAL}")
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    value: Fraction | None
    if head == "+":
        value = sum(known, Fraction(0))
    elif head == "*":
        value = math.prod(known, start=Fraction(1))
    elif head == "/":
        value = known[0] / known[1]
    elif head == "^":
        value = _power(known[0], known[1])
    elif head == "root":
        odd = known[0] < 0 and known[1].denominator == 1 and known[1].numerator % 2 == 1
        value = _power(abs(known[0]), 1 / known[1])
        if known[0] < 0:
            value = -value if odd and value is not None else None
    elif head == "!":
        value = Fraction(math.factorial(int(known[0]))) if known[0].denominator == 1 and known[0] >= 0 else None
    else:
        value = abs(known[0]) if head == "abs" else -known[0]
    if value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise TooLarge(f"a number of more than {BITS} bits")
    return value


_CONSTANTS: dict[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j, "oo": math.inf}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    **{name: getattr(cmath, name) for name in "sin cos tan sinh cosh tanh exp asin acos atan".split()},
    "ln": cmath.log,
    "cot": lambda x: 1 / cmath.tan(x),
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "abs": abs,
}


def numeric(tree: Tree, at: Mapping[str, float]) -> complex | None:
    """The value in floating point, with the given variables; None where it has none, or none that floats can hold."""
    try:
        value = _numeric(tree, at)
    except (ArithmeticError, ValueError):  # overflow, division by zero, a logarithm of zero
        return None
    return value if cmath.isfinite(value) else None


def _numeric(tree: Tree, at: Mapping[str, float]) -> complex:
    head, *parts = tree
    if head == "num":
        return complex(parts[0] / parts[1])
    if head == "sym":
        return at[parts[0]]
    if head == "const":
        return _CONSTANTS[parts[0]]
    values = [_numeric(part, at) for part in parts]
    values = [value if value.imag else complex(value.real) for value in values]  # -0.0 would choose another branch
    if head == "+":
        return sum(values)
    if head == "*":
        return math.prod(values)
    if head == "/":
        return values[0] / values[1]
    if head == "^":
        return values[0] ** values[1]
    if head == "neg":
        return -values[0]
    if head == "!":
        return complex(math.gamma(values[0].real + 1)) if not values[0].imag else complex("nan")
    if head == "root":
        base, degree = values
        if not base.imag and base.real < 0 and not degree.imag and degree.real % 2 == 1:
            return -((-base) ** (1 / degree))
        return base ** (1 / degree)
    if head == "log":
        return cmath.log(values[0]) / cmath.log(values[1])
    return complex(_FUNCTIONS[head](values[0]))
