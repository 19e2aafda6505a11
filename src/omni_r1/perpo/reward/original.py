"""The reward of the released code as it is, its mistakes included: something to compare with, not to train with.

Text decides on answer and format, string similarity earns partial credit, and any energy at hand makes the looks. Two
things differ: expressions go through `same_expression`, and hidden states are not looked at, since the released code
projects them with random weights that no one has. docs/reward.md lists what is known of both.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omni_r1.perpo.reward.original_expressions import same_expression
from omni_r1.perpo.reward.perception import energies
from omni_r1.trajectory import FINAL_ANSWER
from omni_r1.vocabulary import Vocabulary

SIMILAR, SIMILAR_WITHOUT_NUMBERS = 0.77, 0.90
CHEMICAL_WORDS, CHEMICAL_LETTERS = 0.85, 0.90
SMALL = 1e-9

CURRENCY = "$€£¥₹₩₽₫₴₪₦₱฿₭₮₸₺₼₿"
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
LETTERS, DIGITS = "ABCDEFGHIJ", [str(number) for number in range(1, 11)]
MATHS = re.compile(r"[=+*/^]|\\[a-zA-Z]+")
NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d+(?:\.\d+)?(?![A-Za-z])")
FORMULA = re.compile(r"([A-Z][a-z]?)(\d{0,9})")
LABEL = re.compile(
    r"\s*(?:option|answer)?\s*[:)-]?\s*[(\[]?\s*"
    r"(?P<label>[A-J]|10|[1-9]|i{1,3}|iv|v|vi{1,3}|ix|x|[Ⅰ-Ⅹ])(?=$|[\s)\].:])"
    r"\s*[)\].:]?\s*(?P<rest>.*)",
    re.IGNORECASE,
)
CHEMICAL = (
    *("benz", "phen", "naphth", "piperazin", "pyrid", "imidazol", "thiazol", "quinazolin", "hydroxy", "amino"),
    *("oxo", "carbox", "methoxy", "chloro", "fluoro", "bromo", "iodo", "sulfon", "yl"),
)


def accuracy(said: str, gold: str) -> float:
    """In [0, 1]: all that stands behind the first `Final Answer:`, to the very end, against the gold answer."""
    answer, gold = said.partition(FINAL_ANSWER)[2].strip(), gold.strip()
    if re.fullmatch(r"\d+", answer) and re.fullmatch(r"\d+", gold):
        return float(answer == gold)
    mine, wanted = _amount(answer), _amount(gold)
    if mine is not None and wanted is not None:
        return float(_same_amount(mine, wanted))
    if MATHS.search(answer) or MATHS.search(gold):
        return float(same_expression(answer, gold))
    return _similarity_of_texts(answer, gold)


def has_format(said: str) -> bool:
    return "THOUGHT" in said and FINAL_ANSWER in said


def image_energies(ids: Sequence[int], vocabulary: Vocabulary, codebook: Tensor, distances: Tensor) -> list[float]:
    """E_2D of each image of exactly S codes; where there is none, the energy of a line of three codes or more."""
    begun, found = None, []
    for position, token in enumerate(ids):
        if token in (vocabulary.boi, vocabulary.eoi):
            if begun is not None:
                found.append(ids[begun:position])
            begun = position + 1 if token == vocabulary.boi else None
    code_of = {token: code for code, token in enumerate(vocabulary.codes.tolist())}
    lines = [torch.tensor([code_of[token] for token in each if token in code_of], dtype=torch.long) for each in found]
    whole = [codes for codes in lines if len(codes) == vocabulary.image_length]
    if whole:
        return energies(torch.stack(whole), distances).sum(1).tolist()
    return [line_energy(codebook[codes]) for codes in lines if len(codes) >= 3]


def line_energy(vectors: Tensor) -> float:
    """Of codes in a line, (n, D), n at least 3: first differences, half of 1 - cosine, a quarter of second ones."""
    wide = vectors.shape[1]
    first, second = vectors.diff(dim=0), vectors.diff(n=2, dim=0)
    unit = normalize(vectors, dim=1)
    turned = 1 - (unit[1:] * unit[:-1]).sum(1).clamp(-1, 1)
    parts = first.square().sum(1).mean() / wide, 0.5 * turned.mean(), 0.25 * second.square().sum(1).mean() / wide
    return float(sum(parts))


def _amount(text: str) -> tuple[float, bool] | None:
    """A number and whether it is per cent. Parentheses make it negative; commas, spaces and currencies vanish."""
    negative = text.startswith("(") and text.endswith(")") and len(text) > 1
    bare = text[1:-1].strip() if negative else text
    percent = bare.endswith("%")
    digits = re.sub(rf"[{CURRENCY},\s]", "", bare.removesuffix("%"))
    if not re.fullmatch(r"[+-]?\d+(?:\.\d+)?", digits):
        return None
    return (-float(digits) if negative else float(digits)), percent


def _same_amount(mine: tuple[float, bool], wanted: tuple[float, bool]) -> bool:
    (a, a_percent), (b, b_percent) = mine, wanted
    if abs(a - b) < SMALL:
        return True
    if a_percent == b_percent:
        return False
    return abs(a - 100 * b) < SMALL if a_percent else abs(b - 100 * a) < SMALL


def _bare(text: str) -> str:
    """Without `the answer is` in front and marks behind, each run of space as one."""
    text = re.sub(r"\s+", " ", text.strip())
    text = re.sub(r"^\s*(?:the\s+)?answer\s+is\s*[:-]?\s*", "", text, flags=re.IGNORECASE)
    return text.rstrip(" .?!;:").strip()


def _choice(text: str) -> tuple[str | None, str]:
    """The label A to J that a text begins with, as a letter, a number or a Roman numeral, and what follows it."""
    text = _bare(text)
    found = LABEL.fullmatch(text)
    if not found:
        return None, text
    label, behind = found["label"], text[found.end("label") :].lstrip()
    if behind[:1] in ("-", "(") and behind or (len(label) == 1 and label.islower() and behind[:1].isalpha()):
        return None, _bare(text)
    numeral = ROMAN[ord(label) - ord("Ⅰ")] if "Ⅰ" <= label <= "Ⅹ" else label.upper()
    if len(numeral) > 1 or not "A" <= numeral <= "J":
        if numeral not in ROMAN and numeral not in DIGITS:
            return None, text
        numeral = LETTERS[(ROMAN if numeral in ROMAN else DIGITS).index(numeral)]
    return numeral, _bare(re.sub(r"^[-.:)\]\s]+", "", found["rest"]))


def _similarity_of_texts(answer: str, gold: str) -> float:
    (label, mine), (wanted_label, wanted) = _choice(answer), _choice(gold)
    if wanted_label and (not wanted or label == wanted_label):
        return float(label == wanted_label)
    mine, wanted = _bare(mine or answer), _bare(wanted or gold)
    shorter = [re.sub(r"^(?:the|a|an)\s+", "", each, flags=re.IGNORECASE) for each in (mine, wanted)]
    if shorter[0] != mine and shorter[1] != wanted:
        mine, wanted = shorter
    formulas = _atoms(mine), _atoms(wanted)
    if None not in formulas:
        return float(formulas[0] == formulas[1])
    chemical = [_is_chemical(each) for each in (mine, wanted)]
    if all(chemical):
        words = [_words(each) for each in (mine, wanted)]
        sets = [set(each) for each in words]
        shared = len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if all(sets) else 0.0
        alike = _ratio(" ".join(words[0]), " ".join(words[1]))
        return float(shared >= CHEMICAL_WORDS and alike >= CHEMICAL_LETTERS)
    numbers = [[float(each) for each in NUMBER.findall(text)] for text in (mine, wanted)]
    if all(numbers) and not any(chemical):
        if len(numbers[0]) == len(numbers[1]) and all(abs(a - b) < SMALL for a, b in zip(*numbers, strict=True)):
            return 1.0
        if _ratio(NUMBER.sub(" ", mine), NUMBER.sub(" ", wanted)) >= SIMILAR_WITHOUT_NUMBERS:
            return 0.0
    alike = _ratio(mine, wanted)
    return alike if alike > SIMILAR else 0.0


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _atoms(text: str) -> dict[str, int] | None:
    """How many of each atom, where the text is letters and digits of a formula from end to end."""
    text = text.replace(" ", "")
    if not re.fullmatch(rf"(?:{FORMULA.pattern})+", text):
        return None
    counts: dict[str, int] = {}
    for atom, number in FORMULA.findall(text):
        counts[atom] = counts.get(atom, 0) + int(number or 1)
    return counts


def _is_chemical(text: str) -> bool:
    return any(mark in text for mark in "-()[]") and any(part in text.lower() for part in CHEMICAL)


def _words(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())
