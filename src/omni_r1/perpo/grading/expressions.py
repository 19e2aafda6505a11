"""A small parser of mathematical expressions: LaTeX or plain text in, a tree of tuples out, nothing evaluated.

A tree is `("num", n, d)`, `("sym", name)`, `("const", "pi" | "e" | "i" | "oo")`, or `(op, tree, ...)` with op one of
`+ * / ^ neg ! root abs` or a function's name. Hard limits come before any arithmetic, so that no answer is a bomb.
"""

import re
from functools import lru_cache
from typing import Any

from omni_r1.perpo.grading.canonical import ungrouped

LENGTH, TOKENS, DEPTH, DIGITS = 1_000, 400, 40, 300  # the most of each in an expression
LONGEST_RUN = 3  # letters side by side that are still a product: `abc`, but not `blue`

Tree = tuple[Any, ...]

FUNCTIONS = {
    **{name: name for name in "sin cos tan cot sec csc sinh cosh tanh exp abs sqrt ln".split()},
    **{name: "log" for name in ("log", "lg")},  # to base 10 unless a base stands below it, as in school books
    **{f"{prefix}{name}": f"a{name}" for prefix in ("arc", "a") for name in ("sin", "cos", "tan")},
    "cbrt": "cbrt",
}
CONSTANTS = {"π": "pi", "pi": "pi", "e": "e", "i": "i", "∞": "oo", "oo": "oo", "inf": "oo", "infinity": "oo"}
_GREEK_WORDS = "alpha beta gamma delta theta lambda sigma omega phi rho mu".split()

_TOKEN = re.compile(
    r"\s*(?:(?P<num>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+\.?\d*|\.\d+)|(?P<cmd>\\frac|\\binom)|(?P<name>[^\W\d_]+|∞)"
    r"|(?P<op>\*\*|[-+*/^!|(){}\[\]_√∛×·±°])|(?P<bad>.))",
    re.DOTALL,
)
_WORD = re.compile(
    "|".join(sorted([*FUNCTIONS, *CONSTANTS, *_GREEK_WORDS], key=len, reverse=True))
    + r"|[^\W\d_]"  # greedy from the left
)


class NotAnExpression(ValueError):
    """The text is no expression this parser knows."""


class TooLarge(ValueError):
    """An expression beyond the limits: it is not looked at."""


def _tokens(text: str) -> list[tuple[str, str]]:
    text = re.sub(r"(?<![\d.}])(\d+)\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}", r"(\1+\2/\3)", text)  # mixed numbers
    text = re.sub(r"(?<![\d./^])(\d+) (\d+)\s*/\s*(\d+)(?!\d)", r"(\1+\2/\3)", text)
    text = re.sub(r"(\d\.?)[eE]([+-]?\d+)(?!\w)", r"\1×10^{\2}", text)
    text = re.sub(r"(?<=\d) ?[xX] ?(?=10\s*(?:\^|\*\*))", "×", text)
    out: list[tuple[str, str]] = []
    for found in _TOKEN.finditer(text.strip()):
        kind, word = str(found.lastgroup), found[str(found.lastgroup)]
        if kind == "bad":
            raise NotAnExpression(f"{word!r} has no meaning here")
        if kind == "num" and sum(c.isdigit() for c in word) > DIGITS:
            raise TooLarge(f"a number of more than {DIGITS} digits")
        if kind == "name":
            pieces, run = _WORD.findall(word), 0
            for piece in pieces:
                run = run + 1 if len(piece) == 1 else 0
                if run > LONGEST_RUN:
                    raise NotAnExpression(f"{word!r} is a word")
                out.append(("func" if piece in FUNCTIONS else "name", piece))
        else:
            out.append((kind, word))
        if len(out) > TOKENS:
            raise TooLarge(f"more than {TOKENS} symbols")
    return out


def number(digits: str) -> Tree:
    whole, _, part = digits.replace(",", "").partition(".")
    return ("num", int((whole or "0") + part), 10 ** len(part))


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at, self.depth, self.bars = tokens, 0, 0, 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, word: str | None = None) -> str:
        kind, found = self.peek()
        if kind == "end" or (word is not None and found != word):
            raise NotAnExpression(f"expected {word or 'more'!r} at symbol {self.at + 1}")
        self.at += 1
        return found

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            raise TooLarge(f"nested more than {DEPTH} deep")

    def sum(self) -> Tree:
        terms = [self.product()]
        while self.peek()[1] in ("+", "-"):
            minus = self.take() == "-"
            term = self.product()
            terms.append(("neg", term) if minus else term)
        return terms[0] if len(terms) == 1 else ("+", *terms)

    def product(self) -> Tree:
        """Factors from left to right, those after a `/` below the line."""
        above: list[Tree] = [self.signed()]
        below: list[Tree] = []
        while True:
            kind, word = self.peek()
            if word in ("*", "×", "·"):
                self.take()
                above.append(self.signed())
            elif word == "/":
                self.take()
                below.append(self.signed())
            elif self.starts_atom(kind, word):
                if kind == "num" and self.tokens[self.at - 1][0] == "num":
                    raise NotAnExpression("two numbers side by side")
                above.append(self.power())
            else:
                sides = [x[0] if len(x) == 1 else ("*", *x) for x in (above, below) if x]
                return sides[0] if len(sides) == 1 else ("/", *sides)

    def starts_atom(self, kind: str, word: str) -> bool:
        return kind in ("num", "name", "func", "cmd") or word in ("(", "{", "√", "∛") or (word == "|" and not self.bars)

    def signed(self) -> Tree:
        negative = False
        while self.peek()[1] in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.power()
        return ("neg", value) if negative else value

    def power(self) -> Tree:
        base = self.atom()
        if self.peek()[1] == "!":
            self.take()
            base = ("!", base)
        if self.peek()[1] == "°":
            self.take()
            base = ("*", base, ("/", ("const", "pi"), ("num", 180, 1)))
        if self.peek()[1] in ("^", "**"):
            self.take()
            self.deeper()
            base = ("^", base, self.signed())
            self.depth -= 1
        return base

    def group(self) -> Tree:
        """What an operator of LaTeX takes: a braced group, or one digit or letter."""
        if self.peek()[1] == "{":
            return self.bracketed("{", "}")
        kind, word = self.peek()
        if kind == "num" and len(word) > 1 and word.isdigit():  # \frac12
            self.tokens[self.at] = ("num", word[1:])
            return number(word[0])
        return self.atom()

    def bracketed(self, opening: str, closing: str) -> Tree:
        self.take(opening)
        bars, self.bars = self.bars, 0
        inside = self.sum()
        self.bars = bars
        self.take(closing)
        return inside

    def atom(self) -> Tree:
        self.deeper()
        value = self.atom_inside()
        self.depth -= 1
        return value

    def atom_inside(self) -> Tree:
        kind, word = self.peek()
        if word in ("(", "{"):
            return self.bracketed(word, ")" if word == "(" else "}")
        self.take()
        if kind == "num":
            return number(word)
        if kind == "cmd" and word == r"\frac":
            return ("/", self.group(), self.group())
        if word in ("√", "∛"):
            degree: Tree = ("num", 3 if word == "∛" else 2, 1)
            if self.peek()[1] == "[":
                degree = self.bracketed("[", "]")
            return ("root", self.atom(), degree)
        if word == "|":
            self.bars += 1
            inside = self.sum()
            self.bars -= 1
            self.take("|")
            return ("abs", inside)
        if kind == "func":
            return self.function(FUNCTIONS[word])
        if kind == "name":
            return self.symbol(word)
        raise NotAnExpression(f"{word!r} stands where a value should")

    def symbol(self, word: str) -> Tree:
        if self.peek()[1] == "_":
            self.take()
            start = self.at
            self.group()
            return ("sym", f"{word}_{''.join(piece for _, piece in self.tokens[start : self.at]).strip('{}')}")
        return ("const", CONSTANTS[word]) if word in CONSTANTS else ("sym", word)

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        power: Tree | None = None
        if name == "log" and self.peek()[1] == "_":
            self.take()
            base = self.group()
        if self.peek()[1] in ("^", "**"):  # sin^2 x
            self.take()
            power = self.signed() if self.peek()[1] != "{" else self.group()
        if self.peek()[1] in ("(", "{"):
            inside = self.bracketed(self.peek()[1], ")" if self.peek()[1] == "(" else "}")
        else:  # sin 2x: the product up to the next function or sign
            inside = self.signed()
            while self.peek()[0] in ("num", "name"):
                inside = ("*", inside, self.power())
        if power is not None and power in (("neg", ("num", 1, 1)),) and name in ("sin", "cos", "tan"):
            return (f"a{name}", inside)
        if name in ("sqrt", "cbrt"):
            value: Tree = ("root", inside, ("num", 2 if name == "sqrt" else 3, 1))
        elif name == "log":
            value = ("log", inside, base or ("num", 10, 1))
        else:
            value = (name, inside)
        return value if power is None else ("^", value, power)


@lru_cache(maxsize=2048)
def _parsed(text: str) -> Tree | NotAnExpression | TooLarge:
    try:
        text = ungrouped(text)
        if len(text) > LENGTH:
            raise TooLarge(f"longer than {LENGTH} characters")
        parser = _Parser(_tokens(text))
        tree = parser.sum()
        if parser.peek()[0] != "end":
            raise NotAnExpression(f"{parser.peek()[1]!r} stands where it should not")
    except (NotAnExpression, TooLarge) as error:
        return error
    return tree


def parse(text: str) -> Tree:
    """The tree of an expression in canonical spelling. Raises NotAnExpression, or TooLarge beyond the limits."""
    parsed = _parsed(text)
    if isinstance(parsed, Exception):
        raise parsed.with_traceback(None)
    return parsed


def symbols(tree: Tree) -> set[str]:
    """The names of the variables in a tree."""
    if tree[0] == "sym":
        return {tree[1]}
    return set().union(*(symbols(part) for part in tree[1:] if isinstance(part, tuple)))
