"""Words: what text is compared by, number words and roman numerals, words that take an answer back."""

import re

NO_ANSWER = re.compile(r"(|none|n/?a|null|nan|nil|unknown|undefined answer|no answer|[^\w∅∞]+)", re.IGNORECASE)
HEDGE = re.compile(
    r"\b(or|maybe|perhaps|possibly|probably|either|neither|nor|not sure|unsure|might|could be|guess)\b", re.IGNORECASE
)

NUMBER_WORDS = {
    word: value
    for value, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_SYMBOLS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def unanswered(text: str, gold: str) -> bool:
    """Whether a canonical text gives no answer. A sign such as `>` is one where it is the gold answer."""
    return NO_ANSWER.fullmatch(text) is not None and not (text == gold and re.fullmatch(r"\W+", text))


def roman(text: str) -> int | None:
    """The value of a well-formed numeral of two or more symbols: one symbol is a letter. Small ones only of i, v, x."""
    if not (2 <= len(text) <= 15) or not (text.isupper() or set(text) <= set("ivx")):
        return None
    text = text.upper()
    if not _ROMAN.fullmatch(text):
        return None
    values = [_SYMBOLS[symbol] for symbol in text]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def text_key(text: str) -> str:
    """What two equal texts share: case, spacing, final punctuation, a leading article and hyphens do not count.

    Between two digits a space or hyphen does count, and so does a minus sign.
    """
    text = text.casefold().replace("{", "").replace("}", "").rstrip(" .?")
    if re.search(r"[^\W\d_]{2} ?[!?]+$", text):  # n! is a factorial
        text = text.rstrip(" .?!")
    text = re.sub(r"^(the|a|an) (?=\w\w)", "", text)
    text = re.sub(r"\s*-\s*", "-", text)
    return re.sub(r"(?<!\d)\s+(?=\w)|(?<=\w)[\s-]+(?!\d)|(?<=[^\W\d])-(?=\d)|(?<!\d)-(?=[^\W\d])", "", text)


# The bishop b and the pawn on file b: the one place where a move's case counts.
_BISHOP = re.compile(r"[bB]x?[a-h]x?[1-8][+#]?")


def same_text(one: str, other: str) -> bool:
    if _BISHOP.fullmatch(one) and _BISHOP.fullmatch(other) and one[0] != other[0]:
        return False
    return text_key(one) == text_key(other)


_AFTER_YES = re.compile(
    r"(?:yes|no|true|false)\s*(?:[,.;:!-]|(?=because|since|it |they |he |she |there |this |that |the ))", re.I
)


def yes_no(text: str) -> tuple[str, str] | None:
    """("yes" | "no" | "true" | "false", what follows it), None where the text does not begin so."""
    if text.casefold() in ("yes", "no", "true", "false"):
        return text.casefold(), ""
    found = _AFTER_YES.match(text)
    return (re.match(r"\w+", text)[0].casefold(), text[found.end() :].strip()) if found else None  # type: ignore[index]


def takes_back(head: str, tail: str) -> bool:
    """Whether what follows a yes or no leaves it open or says the opposite."""
    if HEDGE.search(tail) or re.search(r"\b(yes|no|true|false|but|actually|wait)\b", tail, re.IGNORECASE):
        return True
    return head in ("yes", "true") and bool(re.search(r"\bnot\b|n't\b|\bnever\b|\bincorrect\b|\bwrong\b", tail, re.I))
