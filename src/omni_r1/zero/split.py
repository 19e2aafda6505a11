"""A rationale in words to its steps, each of which gets a drawing; and whether it comes to the gold answer at all.

The paper draws one image for each step (section 4.2) and does not say what a step is. Here it is what the rationale
itself sets apart, the first of these that it does: `THOUGHT n:` or `Step n:`, numbers that count up, lines, sentences.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omni_r1.trajectory import FINAL_ANSWER

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LABEL = re.compile(  # at the begin of a line or behind a sentence; what follows it is set apart, or begins one
    rf"(?:^|(?<=[.!?:;]\s))[*#_ \t]*(?:thought|step)\s+(\d{{1,3}}|N|{'|'.join(WORDS)})\s*[*_]*"
    r"(?:\s*[:.)\-–—][*_]*\s*|\s+(?=(?-i:[A-Z])))",
    re.MULTILINE | re.IGNORECASE,
)
NUMBER_ON_LINE = re.compile(r"^[ \t]*[*#_]*[ \t]*\(?(\d{1,2})[.)][*_]*(?:[ \t]+|(?=[A-Z]))", re.MULTILINE)
NUMBER_IN_LINE = re.compile(r"(?:^|(?<=[.:;!?]))\s*\(?(\d{1,2})[.)]\s+(?=[A-Z\"'(])")
BULLET = re.compile(r"^[-*•–]\s+")
SENTENCE_END = re.compile(r"(?<=[.!?])([\"')\]”’]*)\s+(?=[\"'(\[“‘]*[A-Z0-9])")
MAYBE_END = re.compile(r"(?<=[.!?])([\"')\]”’*_]*)\s+")  # it is one where what follows concludes, in whatever letters
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|fig|figs|eq|no|nos|dr|mr|mrs|ms|prof|st|jr|sr|approx|ca|resp|vol|pp|al)"
    r"|\b[a-z]\.[a-z])\.$",
    re.IGNORECASE,
)
FEWEST_WORDS = 3  # a piece of less is no step of its own
CHOICE = re.compile(r"\(([A-Z])\)")
CLOSING = re.compile(r"\b(?:answer|correct)\b", re.IGNORECASE)
CHOICES = re.compile(r"\b(?:choices|options|answers)\b[^.\n]*:\s*$", re.IGNORECASE)
ANNOUNCED = re.compile(r"\b(?:the|final|correct)\s+(?:final\s+|correct\s+)?(?:answer|choice|option)\s*(?:is\b|:)", re.I)
JOINED = re.compile(  # what joins an announcement to a clause in front of it
    r"(?<![.!?\s])(?:(?:[,;]?\s+(?:and|but|so|then|thus|hence|therefore)\b)+|;)[\s,]*"
    r"(?:(?:the\s+)?(?:option|choice|answer)\s+)?$",
    re.IGNORECASE,
)
REASON = re.compile(r"\b(?:since|because)\b", re.IGNORECASE)
ANSWER = re.compile(r"[*_#>\s]*(final\s+)?answer[\s*_]*:[\s*_]*(\([A-Z]\)[*_]*\s)?", re.IGNORECASE)
NUMBER_MARKED = re.compile(r"####\s*(?:[-+−$]?[\d.,/:]+\s?\S{0,10}|\(?[A-Z]\)?)\s*$", re.IGNORECASE)
ANSWER_BELOW = re.compile(r"^([*_#> \t]*(?:final\s+)?answer[ \t*_]*:[*_ \t]*)\n\s*(?=\S+[^\n]*\Z)", re.I | re.M)
MARKUP = re.compile(  # what a trajectory is laid out with, by its own names and by those of others
    rf"</?(?:think|thinking|answer|s|pad|eoss|image)>|<(?:racm3:break|reserved\d+|image_\d+)>|{FINAL_ANSWER}"
)
INFERRED = re.compile(r"^(?:so|therefore|thus|hence|consequently|in conclusion|in summary)\b", re.IGNORECASE)
LETTER = re.compile(r"\(?([A-Za-z])[.)]?")
NAMED = (  # a letter as an answer, in its own case: bracketed, alone, behind or before what names it
    r"\({0}\)|^[\W_]*{0}[\W_]*$"
    r"|\b(?i:is|be|so|thus|hence|therefore),?\s+[\"'(*_$]*{0}[\W_]*$"
    r"|(?:\b(?i:options?|choice|answer|letter)\]?(?:\s+(?i:is|of))?|=)[\s:\"'(*_$]*{0}{1}"
    r"|(?<![\w'’-]){0}[\"')*_]*\s+(?i:is\s+(?:the\s+)?(?:correct|right|answer))\b"
)
ENDED, NO_ARTICLE = r"(?![\w'’-])", r"(?!\s*[\w'’-])"
LONGEST_CONCLUSION = 300  # characters
LONGEST_ANSWER, LONGEST_UNSURE = 40, 12  # words; behind a mere `Answer:` may stand reasoning


@dataclass(frozen=True)
class Chain:
    """The steps of a rationale in order, and `conclusion`: words at its end that only announce the answer."""

    steps: tuple[str, ...]
    conclusion: str = ""


def split(rationale: str, most: int) -> Chain:
    """The steps of a rationale, at most so many: neighbours are put together where there are more.

    A step is one line. Nothing that is said is lost but labels, numbers, bullets, and a line at the end that is only
    `Final Answer: ...`, or the rest of one from there: the answer is written there in any case. What only announces the
    answer at the end is no step, unless it is all there is and has a reason with it. No steps for a rationale that is
    empty or nothing but its answer.
    """
    pieces, conclusion = _pieces(rationale), list[str]()
    while pieces:
        *rest, last = _sentences(pieces[-1])
        if not concludes(last) or not (rest or len(pieces) > 1 or _only_answers(last)):
            break
        if said := _kept_of(last):
            conclusion.insert(0, said)
        pieces[-1:] = [left] if (left := " ".join(rest)) else []
        if len(pieces) > 1 and 0 < len(left.split()) < FEWEST_WORDS:
            pieces[-2:] = [f"{pieces[-2]} {left}"]
    return Chain(tuple(_grouped(pieces, most)), " ".join(conclusion))


def concludes(piece: str) -> bool:
    """Whether words only say which answer it is: there is nothing in them to draw.

    They say more where `and`, `so` or the like, or a semicolon, joins the announcement to a clause of three words or
    more in front of it: `The box moves right and the answer is ...`.
    """
    if len(piece) > LONGEST_CONCLUSION:
        return False
    if _answers(piece):
        return True
    before = _before_announcement(piece)
    if before is None:
        return False
    joined = JOINED.search(before)
    clause = before[: joined.start()] if joined and FINAL_ANSWER not in piece else ""  # no step may have that in it
    return len(clause.split()) < FEWEST_WORDS


def _before_announcement(piece: str) -> str | None:
    closing = CLOSING.search(piece) or INFERRED.match(piece)
    announced = ANNOUNCED.search(piece) or (CHOICE.search(piece) if closing else None)
    return piece[: announced.start()] if announced else None


def _only_answers(conclusion: str) -> bool:
    """Whether a conclusion has no reasoning: less than three words lead to it, and no `since` or `because` is in it."""
    before = _before_announcement(conclusion) or ""
    return _answers(conclusion) or (len(before.split()) < FEWEST_WORDS and not REASON.search(conclusion))


def _answers(words: str) -> bool:
    """Whether it is `Final Answer: 5`, `**Answer:** a boat`, `#### 5`: what is written behind the steps anyway."""
    found = ANSWER.match(words)
    if not found:
        return NUMBER_MARKED.match(words) is not None
    return 0 < len(words[found.end() :].split()) <= (LONGEST_ANSWER if found[1] or found[2] else LONGEST_UNSURE)


def _unanswered(text: str) -> str:
    """A text without the lines at its end that are the answer; there GSM8K's `####` has it, whatever it is."""
    lines = text.splitlines()
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("####") or _answers(lines[-1])):
        lines.pop()
    return "\n".join(lines)


def _kept_of(last: str) -> str:
    """What of a concluding sentence is kept: nothing of an answer line, nor of another what a trajectory writes anyway
    from `Final Answer:` on, with a word or two before it."""
    said, mark, _ = last.partition(FINAL_ANSWER)
    if _answers(last) or (mark and len(said.split()) < FEWEST_WORDS):
        return ""
    return said.strip()


def markup(chain: Chain) -> str | None:
    """What in a chain is no words of it but the layout of a trajectory, which would have two of it."""
    found = MARKUP.search("\n".join([*chain.steps, chain.conclusion]))
    return found[0] if found else None


def _pieces(text: str) -> list[str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    text = ANSWER_BELOW.sub(r"\1 ", text)
    for found in (_labels(text), _counting(NUMBER_ON_LINE, text), _counting(NUMBER_IN_LINE, text)):
        if found and not CHOICES.search(text[: found[0].start()]):
            return [line for piece in _cut(text, found) if (line := _one_line(piece))]
    text = _unanswered(text)
    lines = _lines(text)
    return _merged(lines if len(lines) > 1 else _sentences(text))


def _labels(text: str) -> list[re.Match[str]]:
    """Labels whose numbers go up, a last one N; a single one only where it begins the text."""
    found: list[re.Match[str]] = []
    before = -1
    for match in LABEL.finditer(text):
        said = match[1].lower()
        number = 1000 if said == "n" else WORDS.index(said) if said in WORDS else int(said)
        if number > before:
            found.append(match)
            before = number
    return found if len(found) > 1 or (found and not found[0].start()) else []


def _counting(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Matches whose numbers count up from 0 or 1, two or more of them."""
    found: list[re.Match[str]] = []
    for match in pattern.finditer(text):
        number = int(match[1])
        if number == int(found[-1][1]) + 1 if found else number in (0, 1):
            found.append(match)
    return found if len(found) > 1 else []


def _cut(text: str, labels: Sequence[re.Match[str]]) -> list[str]:
    """What stands behind each label; what stands before the first goes with it."""
    ends = [label.start() for label in labels[1:]] + [len(text)]
    pieces = [text[label.end() : end] for label, end in zip(labels, ends, strict=True)]
    pieces[0] = f"{text[: labels[0].start()]} {pieces[0]}"
    last = [line for line in _unanswered(pieces[-1]).splitlines() if line.strip()]
    pieces[-1] = "\n".join(last)
    if len(last) > 1 and concludes(last[-1]):  # a closing line below numbered steps belongs to none of them
        pieces[-1:] = ["\n".join(last[:-1]), last[-1]]
    return pieces


def _lines(text: str) -> list[str]:
    """Lines, with those that go on an earlier one: in small letters (unless it is `so the answer is ...`), or listed
    behind a colon."""
    out: list[str] = []
    listing = False
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            listing = False
            continue
        listed = bool(BULLET.match(line) or CHOICE.match(line) or NUMBER_ON_LINE.match(line))
        line = BULLET.sub("", line)
        listing = listing and listed
        goes_on = line[0].islower() and not (INFERRED.match(line) and concludes(line))
        if out and (goes_on or listing or (listed and out[-1].endswith(":"))):
            listing = listing or listed
            out[-1] += f" {line}"
        else:
            out.append(line)
    return out


def _sentences(text: str) -> list[str]:
    out, start = list[str](), 0
    ends = [(match.end(1), match.end()) for match in SENTENCE_END.finditer(text)]
    for end, behind in [*ends, (len(text), len(text))]:
        piece, start = text[start:end], behind
        if out and ABBREVIATION.search(out[-1]):
            out[-1] += f" {piece}"
        else:
            out.append(piece)
    last = out[-1]
    for match in reversed(list(MAYBE_END.finditer(last, max(0, len(last) - LONGEST_CONCLUSION)))):
        said, closing = last[: match.end(1)], last[match.end() :]
        if concludes(closing) and not ABBREVIATION.search(said):
            return [*out[:-1], said, closing]
    return out


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _merged(pieces: Sequence[str]) -> list[str]:
    """One line each; a piece of a word or two goes with the next, or with the one before where the next concludes."""
    out: list[str] = []
    short = ""
    for piece in pieces:
        line = _one_line(piece)
        if short and out and concludes(line):
            out[-1], short = f"{out[-1]} {short}", ""
        line = _one_line(f"{short} {line}")
        short = line if len(line.split()) < FEWEST_WORDS and not concludes(line) else ""
        if line and not short:
            out.append(line)
    if short and out:
        out[-1] += f" {short}"
    return out or [short] * bool(short)


def _grouped(pieces: Sequence[str], most: int) -> list[str]:
    """At most so many groups of neighbours, as even in number as can be."""
    count = min(most, len(pieces))
    bounds = [place * len(pieces) // count for place in range(count + 1)] if count else [0]
    return [" ".join(pieces[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]


def _letters(choices: Sequence[str]) -> list[str]:
    return [chr(ord("A") + place) for place in range(len(choices))]


def chosen_letter(rationale: str, choices: Sequence[str]) -> str | None:
    """The letter that a rationale comes to, by the rules M3CoT scores answers with; None where it comes to none.

    What follows `[Answer]` counts alone, where it is there. Then the last `(X)` decides; else the last choice whose
    text occurs; else a letter by itself, large before small.
    """
    said = rationale.rpartition("[Answer]")[2].strip()
    letters = _letters(choices)
    named = [letter for letter in CHOICE.findall(said) if letter in letters]
    if named:
        return named[-1]
    spelled = [letter for letter, choice in zip(letters, choices, strict=True) if choice and choice in said]
    if spelled:
        return spelled[-1]
    tokens = said.split()
    return next((letter for form in (str.upper, str.lower) for letter in letters if form(letter) in tokens), None)


def reaches(rationale: str, answer: str, choices: Sequence[str]) -> bool:
    """Whether a rationale comes to the gold answer: the letter of a choice by `chosen_letter`; any other answer occurs
    in it as words of its own, in whatever case. A number is then no part of a longer one, its sign included, and a
    single letter is named as one: `(A)`, `option A`, `the answer is A`."""
    if answer in _letters(choices):
        return chosen_letter(rationale, choices) == answer
    said, answer = rationale.replace("−", "-"), answer.strip().replace("−", "-")
    if letter := LETTER.fullmatch(answer):
        behind = NO_ARTICLE if letter[1] == "a" else ENDED
        return re.search(NAMED.format(letter[1], behind), said, re.MULTILINE) is not None
    before = r"(?<![\w.\-/])(?<!\d,)" if answer[:1].isdigit() else r"(?<!\w)"
    behind = r"(?![\w/]|[.,]\d)" if answer[-1:].isdigit() else r"(?!\w)"
    return re.search(f"{before}{re.escape(answer)}{behind}", said, re.IGNORECASE) is not None
