"""Choice letters: the letter decides, however it is decorated; a contradiction or a second letter decides against."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from omni_r1.perpo.grading.canonical import canonical, ungrouped
from omni_r1.perpo.grading.words import HEDGE, same_text

LETTERS = "ABCDEFGHIJ"  # what may stand for a choice; any other letter is a name

_LEAD = re.compile(
    r"(?:(?:i (?:choose|chose|pick|select|go with|would choose|would pick)|it is|it's|it must be|select|choose|"
    r"letter|answer|option|choice|the (?:correct |right |best )?(?:answer|option|choice|letter)(?: is)?)\b *(?:: *)?)+"
    r"(?=[(\[{<\"'*]*[A-Za-z]\b)",
    re.IGNORECASE,
)
_ALONE = re.compile(r"[(\[{<\"'*]*([A-Ja-j])[)\]}>\"'*]*[.:]?[*\"']*")
_LABELLED = re.compile(
    r"(?:[(\[{<*]+([A-Ja-j])[.:]?[)\]}>*]+ *[.:-]? *"
    r"|([A-Ja-j])(?:[.):] *|\*\*[.:)]? *| - | (?=\()| (?=because\b|since\b)))(.+)",
    re.DOTALL,
)
_REJECTED = re.compile(
    r"(?:is|are|was|isn't|can't|cannot|and|or|but|not (?:correct|right|the answer))\b", re.IGNORECASE
)
_TRAIL = re.compile(r" is (?:the )?(?:correct|right|best)?(?: ?(?:answer|option|choice|one))?$", re.IGNORECASE)
_BECAUSE = re.compile(r"(?:because|since|as)\b", re.IGNORECASE)
_OTHER_LETTER = re.compile(r"(?<![\w'°])([A-J])(?![\w'°])")


@dataclass(frozen=True)
class Choice:
    letter: str | None
    content: str = ""


def choice(text: str) -> Choice | None:
    """The letter, and the content where it stands too: `B`, `(b)`, `option B`, `B. 12`, `(B) red circle`."""
    if lead := _LEAD.match(text):
        text = text[lead.end() :]
    if (trail := _TRAIL.search(text)) and trail[0] != " is ":
        text = text[: trail.start()]
    if alone := _ALONE.fullmatch(text):
        return Choice(alone[1].upper())
    if labelled := _LABELLED.fullmatch(text):
        content = canonical(labelled[3])
        if content:
            return Choice((labelled[1] or labelled[2]).upper(), content)
    return None


def labelled(options: Sequence[str], gold: str) -> Choice | None:
    """The gold choice with both its letter and its content, from the options; None where they do not tell."""
    contents = contents_of(options)
    said = choice(gold)
    if said is not None and str(said.letter) in LETTERS[: len(contents)]:
        return Choice(said.letter, contents[LETTERS.index(str(said.letter))])
    places = [place for place, content in enumerate(contents) if same_text(content, gold)]
    if len(places) == 1 and places[0] < len(LETTERS):
        return Choice(LETTERS[places[0]], contents[places[0]])
    return None


def contents_of(options: Sequence[str]) -> list[str]:
    """The options' contents, without the labels that may stand before them."""
    out = []
    for letter, option in zip(LETTERS, options, strict=False):
        text = canonical(option)
        said = choice(text)
        out.append(said.content if said is not None and said.content and said.letter == letter else text)
    return out


def compare_choices(
    answer: str, want: Choice, same: Callable[[str, str], bool], others: Sequence[str] = ()
) -> tuple[bool, str]:
    """The verdict. `same` compares contents; `others` are those of the wrong options, where they are known."""
    said = choice(answer)
    if want.content and same(answer, want.content):  # before the letter: an option may be `A` itself
        if any(same(answer, other) for other in others):
            return False, "it fits more than one option"
        if said is None or said.letter == want.letter or not said.content:
            alone = said is not None and not said.content and said.letter != want.letter
            return (
                (False, f"{said.letter} is not {want.letter}")
                if alone and said
                else (True, "the content of the choice")
            )
    if said is None:
        spaced = re.fullmatch(r"([A-Ja-j])[\s,]+(.+)", answer, re.DOTALL)
        if spaced and want.content and spaced[1].upper() == want.letter and same(spaced[2], want.content):
            return True, "letter and content agree"
        return False, "neither the letter nor the content of the choice"
    if said.letter != want.letter:
        return False, f"{said.letter} is not {want.letter}"
    if not said.content:
        return True, f"the letter {want.letter}"
    content = ungrouped(said.content)
    if want.content:
        if same(content, want.content):
            return True, "letter and content agree"
        if not _BECAUSE.match(content):
            return False, "the letter is right, its content contradicts it"
    if said.content[:1] in ",/&+" or _REJECTED.match(content) or (_BECAUSE.match(content) and HEDGE.search(content)):
        return False, "not one choice"
    second = [
        m for m in _OTHER_LETTER.finditer(content) if m[1] != "I" and not re.match(r"A [a-z]", content[m.start() :])
    ]
    if HEDGE.match(content) or second or re.search(r"\b(maybe|perhaps|not sure|or)\b", content, re.IGNORECASE):
        return False, "more than one letter, or a hedge"
    return True, f"the letter {want.letter}"
