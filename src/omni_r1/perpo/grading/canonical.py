"""One spelling for the many ways to write an answer: Unicode, LaTeX, Markdown and phrases such as "The answer is".

Nothing here decides what is right. Case is kept, because it can carry meaning (CO, Co); docs/grading.md has the rules.
"""

import re
import unicodedata
from functools import lru_cache

LONGEST = 2_000  # characters; a longer answer is no answer
ROUNDS = 8  # of stripping wrappers: "The answer is **\boxed{\text{(B)}}**." needs four

_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ", "0123456789+-=()n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()", strict=True))
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
        **dict.fromkeys("“”„″", '"'),
        **dict.fromkeys("‘’‚′`´", "'"),
        **dict.fromkeys("⋅∙•‧", "·"),
        **dict.fromkeys("→⟶⇒⟹", "→"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **{"∶": ":", "º": "°", "˚": "°", "÷": "/", "⁄": "/", "∕": "/", "✕": "×", "∗": "*"},
        **{"≤": "<=", "≥": ">=", "⩽": "<=", "⩾": ">=", "≠": "!=", "🞄": "·"},
    }
)
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_COMMANDS = {
    **{
        name: unicodedata.lookup(f"GREEK {'CAPITAL' if name[0].isupper() else 'SMALL'} LETTER {name.upper()}")
        for name in _GREEK.replace("lambda", "lamda").replace("Lambda", "Lamda").split()
    },
    **{"lambda": "λ", "Lambda": "Λ", "varepsilon": "ε", "vartheta": "θ", "varphi": "φ"},
    **dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "limits"), ""),
    **dict.fromkeys(("quad", "qquad", "thinspace", "space", "enspace"), " "),
    **dict.fromkeys(("le", "leq", "leqslant"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant"), ">="),
    **dict.fromkeys(("ne", "neq"), "!="),
    **dict.fromkeys(("to", "rightarrow", "longrightarrow", "Rightarrow", "implies"), "→"),
    **dict.fromkeys(("dots", "ldots", "cdots"), "..."),
    **dict.fromkeys(("approx", "simeq"), "≈"),
    **dict.fromkeys(("circ", "degree"), "°"),
    **dict.fromkeys(("emptyset", "varnothing"), "∅"),
    **dict.fromkeys(("mid", "vert", "lvert", "rvert"), "|"),
    **{"lt": "<", "gt": ">", "infty": "∞", "pm": "±", "cdot": "·", "times": "×", "div": "/", "cup": "∪", "cap": "∩"},
    **{"in": "∈", "angle": "∠", "triangle": "△", "sqrt": "√", "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac"},
    **{"lbrace": "{", "rbrace": "}", "land": " and ", "lor": " or ", "euro": "€", "pounds": "£", "colon": ":"},
}
_FUNCTIONS = "arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc ln log lg exp min max gcd deg".split()
_COMMANDS |= {name: f" {name} " for name in _FUNCTIONS}

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_TEXT = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|textit|mathit|mathsf|textrm|mbox|operatorname|emph|underline|ce|mathbb|rm|bf)\*?"
    r"\s*\{([^{}]*)\}"
)
_MATH = re.compile(r"\$\$?([^$]+?)\$\$?(?!\d)")
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|and)\b,? *)?(?:(?:the|my|our) )?(?:(?:final|correct|right|best|overall) )*"
    r"(?:answer|ans|result|solution|option|choice)s?"
    r"(?: *(?:is|are|would be|should be|will be|must be|equals)\b *:?| *[:=] ?) *(?:that )?",
    re.IGNORECASE,
)
_SO = re.compile(r"(?:so|thus|therefore|hence)(?:,| the) *(?=\S)", re.IGNORECASE)
_QUOTES = ('"', "'", "**", "__", "$")


def _folded(text: str) -> str:
    """Unicode to one form: raised and lowered digits as ^ and _, fractions as n/d, one minus, one space."""
    text = re.sub(f"[{''.join(_RAISED)}]+", lambda m: "^{" + "".join(_RAISED[c] for c in m[0]) + "}", text)
    text = re.sub(f"[{''.join(_LOWERED)}]+", lambda m: "_{" + "".join(_LOWERED[c] for c in m[0]) + "}", text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text).translate(_CHARACTERS)
    return unicodedata.normalize("NFKC", text).translate(_CHARACTERS)


def _boxed(text: str) -> str:
    r"""`\boxed{x}` and `\ce{x}` are x, wherever they stand."""
    for _ in range(ROUNDS):
        found = re.search(r"\\(?:f?boxed|ce)\s*\{", text)
        if not found:
            break
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        inner = text[found.end() : end - 1] if not depth else text[found.end() :]
        text = text[: found.start()] + inner + text[end:]
    return text


def _without_latex(text: str) -> str:
    text = _boxed(text)
    for _ in range(ROUNDS):  # innermost first
        shorter = _TEXT.sub(lambda m: f" {m[1]} " if re.fullmatch(r"[a-z]{2,}", m[1]) else m[1], text)
        if shorter == text:
            break
        text = shorter
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]", " ", text)
    text = text.replace("\\$", "\0")  # a currency sign, while a bare pair of $ delimits mathematics
    text = _MATH.sub(lambda m: m[1], text).replace("\0", "$")
    text = re.sub(r"\\[,;: ]|(?<=\w)~(?=\w)", " ", text).replace("\\!", "")
    text = re.sub(r"\\([%#&_{}|])", r"\1", text).replace("{,}", ",")
    text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)
    text = re.sub(r"\^\s*\{?\s*°\s*\}?", "°", text)
    return re.sub(r"(?<=\d)\^(?:o|\{o\})(?![\w(])", "°", text)


def _stripped(text: str) -> str:
    """Without quotes around it, punctuation after it and phrases before it."""
    text = text.strip().rstrip(" .,;:")
    if re.search(r"[^\W\d_]{2}!+$", text):  # `5!` and `n!` are factorials
        text = text.rstrip("!")
    for mark in _QUOTES:
        inner = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inner.strip() and mark not in inner:
            text = inner
    lead = _LEAD.match(text) or _SO.match(text)
    if lead and text[lead.end() :]:
        text = text[lead.end() :]
    return text.removeprefix(": ").removeprefix("= ").strip()


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The text in one spelling, case kept; empty where it says nothing."""
    text = _without_latex(_folded(text))
    text = re.sub(r"\s+", " ", text)
    for _ in range(ROUNDS):
        shorter = _stripped(text)
        if shorter == text:
            break
        text = shorter
    return text


def outer_pairs(text: str) -> dict[int, int]:
    """Index of each opening bracket -> index of its partner, whichever kind it is; empty where they do not balance."""
    pairs, open_at = {}, []
    for index, character in enumerate(text):
        if character in "([{":
            open_at.append(index)
        elif character in ")]}":
            if not open_at:
                return {}
            pairs[open_at.pop()] = index
    return {} if open_at else pairs


def ungrouped(text: str) -> str:
    """Without the round brackets that hold the whole text, however many, and without doubled ones inside."""
    pairs = outer_pairs(text)
    drop: set[int] = set()
    for start, end in pairs.items():
        if text[start] != "(" or text[end] != ")":
            continue
        if pairs.get(start + 1) == end - 1 and text[start + 1] == "(" and text[end - 1] == ")":
            drop |= {start, end}
    text = "".join(character for index, character in enumerate(text) if index not in drop)
    if outer_pairs(text).get(0) == len(text) - 1 and text.startswith("(") and text.endswith(")"):
        inside = text[1:-1].strip()
        return text if len(split_top(inside, "[,;]")) > 1 else inside  # a point or an interval keeps them
    return text


def split_top(text: str, separator: str) -> list[str]:
    """Cut at each match of the pattern that lies outside all brackets; the parts are stripped."""
    depth_at, depth = [], 0
    for character in text:
        depth -= character in ")]}"
        depth_at.append(depth)
        depth += character in "([{"
    parts, start = [], 0
    for found in re.finditer(separator, text):
        if depth_at[found.start()] == 0:
            parts.append(text[start : found.start()].strip())
            start = found.end()
    return [*parts, text[start:].strip()]
