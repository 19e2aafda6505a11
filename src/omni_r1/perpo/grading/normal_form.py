"""Sums of products in one order: the cheap proof that two expressions are equal, without sympy.

A form is `{monomial: coefficient}`; a monomial is a sorted tuple of (atom, exponent). Atoms are variables, constants,
primes under a root (exponent between 0 and 1), logarithms of primes, and whatever else stands as it is. So `√8` and
`2√2`, `(x+1)^2` and `x^2+2x+1`, `π/2` and `0.5π` get the same form. Two forms that differ prove nothing.
"""

from fractions import Fraction
from typing import Any

from omni_r1.perpo.grading.evaluate import exact
from omni_r1.perpo.grading.expressions import TooLarge, Tree

TERMS = 300  # the most in a form
FACTORED = 10**9  # numbers up to here are factored under roots and logarithms

Monomial = tuple[tuple[Any, Fraction], ...]
Form = dict[Monomial, Fraction]
ONE: Monomial = ()


class Unknown(ValueError):
    """No form for this expression within the limits."""


def _factors(number: int) -> dict[int, int]:
    if not 0 < number <= FACTORED:
        raise Unknown
    out: dict[int, int] = {}
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            out[prime] = out.get(prime, 0) + 1
            number //= prime
        prime += 1
    if number > 1:
        out[number] = out.get(number, 0) + 1
    return out


def _prime_powers(value: Fraction) -> dict[int, int]:
    powers = _factors(value.numerator)
    for prime, power in _factors(value.denominator).items():
        powers[prime] = powers.get(prime, 0) - power
    return powers


def _monomial(powers: dict[Any, Fraction]) -> tuple[Monomial, Fraction]:
    """Sorted, whole powers of primes moved into the coefficient; i^2 is -1."""
    coefficient, kept = Fraction(1), []
    for atom, power in powers.items():
        if atom[0] == "prime":
            whole = power.numerator // power.denominator
            coefficient *= Fraction(atom[1]) ** whole
            power -= whole
        elif atom == ("const", "i") and power.denominator == 1:
            coefficient *= -1 if power % 4 >= 2 else 1
            power %= 2
        if power:
            kept.append((atom, power))
    return tuple(sorted(kept, key=repr)), coefficient


def _times(one: Form, other: Form) -> Form:
    if len(one) * len(other) > TERMS * 10:
        raise Unknown
    out: Form = {}
    for left, a in one.items():
        for right, b in other.items():
            powers = dict(left)
            for atom, power in right:
                powers[atom] = powers.get(atom, Fraction(0)) + power
            monomial, factor = _monomial(powers)
            out[monomial] = out.get(monomial, Fraction(0)) + a * b * factor
    return _clean(out)


def _clean(form: Form) -> Form:
    form = {monomial: coefficient for monomial, coefficient in form.items() if coefficient}
    if len(form) > TERMS or any(c.numerator.bit_length() + c.denominator.bit_length() > 8192 for c in form.values()):
        raise Unknown
    return form


def _plus(forms: list[Form]) -> Form:
    out: Form = {}
    for form in forms:
        for monomial, coefficient in form.items():
            out[monomial] = out.get(monomial, Fraction(0)) + coefficient
    return _clean(out)


def _atom(*parts: Any) -> Form:
    return {((parts, Fraction(1)),): Fraction(1)}


def _key(form: Form) -> tuple[Any, ...]:
    return tuple(sorted(form.items(), key=repr))


def _power(base: Form, exponent: Fraction) -> Form:
    if exponent.denominator == 1 and 0 <= exponent <= 64:
        out: Form = {ONE: Fraction(1)}
        for _ in range(int(exponent)):
            out = _times(out, base)
        return out
    if len(base) == 1:
        [(monomial, coefficient)] = base.items()
        if exponent.denominator == 1 and abs(exponent) <= 1000:
            inverse, factor = _monomial({atom: power * exponent for atom, power in monomial})
            return {inverse: coefficient**exponent.numerator * factor}
        if coefficient > 0 and all(
            atom[0] == "prime" or atom == ("const", "pi") or power == 1 for atom, power in monomial
        ):
            if sum(atom[0] not in ("prime", "const") for atom, _ in monomial) <= (1 if coefficient == 1 else 0):
                powers: dict[Any, Fraction] = {atom: power * exponent for atom, power in monomial}
                for prime, times in _prime_powers(coefficient).items():
                    powers[("prime", prime)] = powers.get(("prime", prime), Fraction(0)) + times * exponent
                root, factor = _monomial(powers)
                return {root: factor}
    return _atom("power", _key(base), exponent)


def _over(above: Form, below: Form) -> Form:
    if not below:
        raise ZeroDivisionError
    if len(above) == len(below) and above.keys() == below.keys():
        ratios = {above[monomial] / below[monomial] for monomial in below}
        if len(ratios) == 1:
            return {ONE: ratios.pop()}
    return _times(above, _power(below, Fraction(-1)))


def _logarithm(inside: Form) -> Form:
    if inside == {(((("const", "e")), Fraction(1)),): Fraction(1)}:
        return {ONE: Fraction(1)}
    if list(inside) == [ONE] and inside[ONE] > 0:
        return {
            ((("ln", prime), Fraction(1)),): Fraction(power)
            for prime, power in _prime_powers(inside[ONE]).items()
            if power
        }
    return _atom("ln", _key(inside))


def form(tree: Tree) -> Form:
    """The form of an expression. Raises Unknown where it has none within the limits, TooLarge, ZeroDivisionError."""
    head, *parts = tree
    if head == "num":
        value = Fraction(*parts)
        return {ONE: value} if value else {}
    if head in ("sym", "const"):
        return _atom(head, parts[0])
    if head in ("^", "root"):
        exponent = exact(parts[1])
        if exponent is None:
            return _atom("power", _key(form(parts[0])), _key(form(parts[1])))
        if head == "root" and not exponent:
            raise Unknown
        return _power(form(parts[0]), exponent if head == "^" else 1 / exponent)
    forms = [form(part) for part in parts]
    if head == "+":
        return _plus(forms)
    if head == "neg":
        return {monomial: -coefficient for monomial, coefficient in forms[0].items()}
    if head == "*":
        product = forms[0]
        for factor in forms[1:]:
            product = _times(product, factor)
        return product
    if head == "/":
        return _over(forms[0], forms[1])
    if head == "ln":
        return _logarithm(forms[0])
    if head == "log":
        return _over(_logarithm(forms[0]), _logarithm(forms[1]))
    return _atom(head, *map(_key, forms))


def same_form(one: Tree, other: Tree) -> bool:
    """Whether both have the same form; False where they differ or have none."""
    try:
        return form(one) == form(other)
    except (Unknown, TooLarge, ZeroDivisionError):
        return False
