"""Chemical formulas: case, order of atoms and charge are compared, never the count of atoms alone."""

import re

_ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv "
    "Ts Og"
)
_ELEMENT = "(?:" + "|".join(sorted(_ELEMENTS.split(), key=len, reverse=True)) + ")"
_CHARGE = r"(?:\^?\d*[+-]|\^[+-]\d*)"
_FORMULA = re.compile(
    rf"\d*(?:{_ELEMENT}\d*|[\[(](?=[A-Z\[(])|[\])]\d*|·\d*|[-=≡](?=[A-Z(])|\^\d+(?=[A-Z]))+{_CHARGE}?"
)
_LARGE = {
    "CO",
    "HF",
    "HI",
    "NO",
    "KI",
    "KF",
    "KOH",
    "HCN",
    "KCN",
    "CN",
    "OH",
    "BN",
    "SCN",
    "KH",
    "UO",
    "VO",
    "CS",
    "PH",
    "HOH",
}
_ONE_ELEMENT = {"H2", "N2", "O2", "F2", "Cl2", "Br2", "I2", "O3", "P4", "S8"}
_ARROW = re.compile(r"->|→|⇌|<->|=+>|↔")


def _key(text: str) -> str | None:
    """One spelling of a formula, None where it is none."""
    if len(text) > 200:
        return None
    text = re.sub(r"(?<=\)|\w) ?\^", "^", text)
    text = re.sub(r"(?<=[A-Za-z\d)}])-(?=[A-Z(])", "", text)  # a drawn bond: CH3-CH2-OH
    text = re.sub(r"[{}_]", "", text.replace("•", "·")).replace(
        ".", "·" if re.search(r"\d\.\d*H_?2_?O|[A-Z0-9]\.\d*H2O", text) else "."
    )
    if " " in text.strip():
        text = re.sub(r"\s*·\s*", "·", text)
    if not _FORMULA.fullmatch(text) or not any(c.isupper() for c in text):
        return None
    if text.count("(") != text.count(")") or text.count("[") != text.count("]"):
        return None
    text = re.sub(r"\^([+-])(\d+)$", r"^\2\1", text)  # Fe^{+3}
    text = re.sub(r"(?<=[A-Za-z)\]])\^?1?([+-])$", r"^\1", text)  # Na+, Na^{1+}
    text = re.sub(rf"^({_ELEMENT})(\d)([+-])$", r"\1^\2\3", text)  # of one atom: Fe3+ is Fe^{3+}
    return re.sub(r"^([^^]*\d)([+-])$", r"\1^\2", text)  # of more: in NH4+ the 4 counts atoms


def formula(text: str) -> str | None:
    """The key of a text that must be meant as a formula: with small digits, a charge or several elements."""
    key = _key(text)
    if key is None or re.fullmatch(r"[A-Z]\d?", key) and key not in _ONE_ELEMENT:
        return None
    if re.fullmatch(rf"{_ELEMENT}\d+", key) and key not in _ONE_ELEMENT:
        return None
    if re.fullmatch(r"[A-Z]+", key) and key not in _LARGE:
        return None
    if re.fullmatch(r"[A-Z]-[A-Z]|\d+[A-Z]", key):  # a segment or a bond; an amount
        return None
    return key


def _reaction(text: str) -> tuple[tuple[str, ...], ...] | None:
    sides = _ARROW.split(text)
    if len(sides) != 2:
        return None
    out = []
    for side in sides:
        keys = [
            _key(re.sub(r"^(\d+) ", r"\1", part.strip()))
            for part in re.split(r"\s+\+\s+|(?<=[\w)])\+(?=[A-Z\d])", side.strip())
        ]
        if None in keys:
            return None
        out.append(tuple(sorted(str(key) for key in keys)))
    return tuple(out)


def compare_formulas(answer: str, gold: str) -> tuple[bool, str] | None:
    """The verdict on two formulas or reactions; None where the gold answer is neither."""
    if (wanted := _reaction(gold)) is not None:
        return _reaction(answer) == wanted, "compared as reactions, the order within a side does not count"
    if (want := formula(gold)) is None:
        return None
    return _key(answer) == want, "compared as formulas: case, structure and charge count"
