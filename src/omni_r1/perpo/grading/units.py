"""Units: many spellings of one unit become one name. Nothing is converted: 12 m is not 1200 cm."""

import re

PERCENT, DEGREE, RADIAN = "%", "°", "rad"

_PREFIXES = {"G": "giga", "M": "mega", "k": "kilo", "h": "hecto", "d": "deci", "c": "centi", "m": "milli", "μ": "micro",
             "n": "nano", "p": "pico"}  # fmt: skip
_SCALED = {
    "m": "meter metre", "g": "gram gramme", "s": "second sec", "L": "liter litre l", "N": "newton", "J": "joule",
    "W": "watt", "V": "volt", "A": "ampere amp", "Hz": "hertz", "Pa": "pascal", "mol": "mole", "Ω": "ohm",
    "C": "coulomb", "F": "farad", "T": "tesla", "H": "henry", "Wb": "weber", "eV": "electronvolt", "cal": "calorie",
    "K": "kelvin", "bar": "", "B": "byte", "Bq": "becquerel", "Wh": "watt-hour",
}  # fmt: skip
_OTHER = {
    "min": "minute min", "h": "hour hr h", "day": "day", "week": "week wk", "month": "month", "year": "year yr",
    "in": "inch in", "ft": "foot feet ft", "yd": "yard yd", "mi": "mile mi", "lb": "lb", "oz": "ounce oz",
    "gal": "gallon gal", "pint": "pint", "cup": "cup", "tsp": "teaspoon tsp", "tbsp": "tablespoon tbsp",
    "quart": "quart", "acre": "acre", "ha": "hectare ha",
    "ton": "ton tonne", "atm": "atmosphere atm",
    "M": "molar M", "unit": "unit", "pixel": "pixel px", "pound": "pound", "dB": "decibel dB", "rpm": "rpm", "u": "amu",
    DEGREE: "° degree deg", "°C": "°C celsius", "°F": "°F fahrenheit", RADIAN: "radian rad",
    PERCENT: "% percent percentage pct",
    "USD": "$ dollar USD US$ buck", "EUR": "€ euro EUR", "GBP": "£ GBP", "JPY": "¥ yen JPY", "CNY": "yuan CNY RMB",
    "INR": "₹ rupee INR Rs", "cent": "cent ¢", "KRW": "₩ KRW",
}  # fmt: skip
CURRENCIES = {"USD", "EUR", "GBP", "JPY", "CNY", "INR", "KRW"}

SYMBOLS: dict[str, str] = {}  # spelling -> name, case as written
NAMES: dict[str, str] = {}  # words, in small letters
for _unit, _spellings in {**_SCALED, **_OTHER}.items():
    for _one in _spellings.split():
        (NAMES if _one.isalpha() and _one.islower() and len(_one) > 1 else SYMBOLS)[_one] = _unit
    SYMBOLS[_unit] = _unit
    if _unit in _SCALED:
        for _short, _long in _PREFIXES.items():
            if (_short, _unit) in (("h", "s"), ("h", "L"), ("d", "s"), ("p", "T"), ("c", "F")):
                continue
            SYMBOLS[_short + _unit] = _short + _unit
            for _one in _spellings.split():
                (NAMES if len(_one) > 1 else SYMBOLS)[(_long if len(_one) > 1 else _short) + _one] = _short + _unit
SYMBOLS |= {"um": "μm", "ug": "μg", "us": "μs", "ohm": "Ω", '"': "in", "'": "ft", "sec": "s", "℃": "°C", "℉": "°F"}
WHOLE = {  # spellings that no rule makes
    "kph": "h^-1 km^1", "kmh": "h^-1 km^1", "kmph": "h^-1 km^1", "mph": "h^-1 mi^1", "mps": "m^1 s^-1", "cc": "cm^3",
    "degrees celsius": "°C^1", "degree celsius": "°C^1", "deg c": "°C^1", "degrees c": "°C^1", "° celsius": "°C^1",
    "degrees fahrenheit": "°F^1", "degree fahrenheit": "°F^1", "degrees f": "°F^1", "deg f": "°F^1", "fps": "ft^1 s^-1",
    "ms^{-1}": "m^1 s^-1", "ms^-1": "m^1 s^-1", "ms^{-2}": "m^1 s^-2", "ms^-2": "m^1 s^-2",
    "° c": "°C^1", "° f": "°F^1", "per cent": "%^1", "square units": "unit^2", "us dollars": "USD^1",
}  # fmt: skip

# Words after a number that are no unit but change what it says, or take it back.
_NOT_NOUNS = set(
    "or and not no nor maybe perhaps possibly probably is was has does are isn't wasn't as plus minus times halves "
    "thirds fourths quarters fifths sixths sevenths eighths ninths tenths tens dozens hundreds thousands "
    "millions billions guess less more fewer extra other wrong incorrect sometimes always versus vs else yes".split()
)
_PLURALS = {
    "people",
    "children",
    "men",
    "women",
    "fish",
    "sheep",
    "mice",
    "teeth",
    "geese",
    "deer",
    "dice",
    "oxen",
    "cacti",
}
_NOUN = re.compile(r"[A-Za-z][a-z]{2,24}(?:[ -][a-z]{2,24}){0,2}")


def _single(word: str) -> str:
    if word in ("people", "persons"):
        return "person"
    for ending, kept in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("ss", "ss")):
        if word.endswith(ending):
            return word[: -len(ending)] + kept
    return word[:-1] if word.endswith("s") and len(word) > 2 else word


def _base(word: str) -> str | None:
    """The name of one simple unit, None if it is none."""
    if word in SYMBOLS:
        return SYMBOLS[word]
    small = word.casefold()
    for spelling in (small, _single(small)):
        if spelling in NAMES:
            return NAMES[spelling]
    if _single(word) in SYMBOLS and len(word) > 2:  # kgs, yds
        return SYMBOLS[_single(word)]
    if word.isupper() and 2 <= len(word) <= 3:  # CM, KG: written large throughout, so no case is meant
        return next((SYMBOLS[s] for s in SYMBOLS if s.isalpha() and s.casefold() == small and s[0].islower()), None)
    return None


_POWER = re.compile(r"(.+?)(?:\^\{?([+-]?\d)\}?|(?<=[A-Za-z])([23]))")


def known_unit(text: str) -> str | None:
    """A unit that stands in the tables, as sorted `name^power`: `m/s`, `meters per second`, `m s^{-1}` are all one."""
    text = text.strip()
    if not text or len(text) > 60:
        return None
    if (whole := WHOLE.get(text.casefold())) is not None:
        return whole
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", re.sub(r"\bper\b", "/", text, flags=re.IGNORECASE))
    text = re.sub(r"\bNm\b", "N m", text)
    powers: dict[str, int] = {}
    sign, shape = 1, 1
    for token in re.findall(r"[/·*×]|[^\s/·*×]+", text):
        if token in "·*×":
            continue
        if token == "/":
            sign = -1
            continue
        small = token.casefold()
        if small in ("square", "sq", "sq.", "cubic", "cu"):
            shape = 3 if small.startswith("cu") else 2
            continue
        if small in ("squared", "cubed") and powers:
            powers[list(powers)[-1]] *= 2 if small == "squared" else 3
            continue
        bare = token.strip("()").rstrip(".")
        name, power = _base(bare), 1
        if name is None and (raised := _POWER.fullmatch(bare)):
            name, power = _base(raised[1]), int(raised[2] or raised[3])
        if name is None:
            return None
        for part in (name[:-1], "h") if name.endswith("Wh") else (name,):
            powers[part] = powers.get(part, 0) + sign * shape * power
        shape = 1
    return " ".join(sorted(f"{name}^{power}" for name, power in powers.items())) or None


def unit_of(text: str) -> str | None:
    """A known unit, or `noun ...` for what is counted ("red apples"); None where the text is neither."""
    if (unit := known_unit(text)) is not None:
        return unit
    if not _NOUN.fullmatch(text):
        return None
    words = text.casefold().split(" ")
    if any(word in _NOT_NOUNS for word in words):
        return None
    return "noun " + " ".join([*words[:-1], _single(words[-1])])


def is_plural(text: str) -> bool:
    """Whether an unknown noun looks like something counted, not like a remark ("42 wrong")."""
    last = text.casefold().split(" ")[-1]
    return last in _PLURALS or (last.endswith("s") and not last.endswith("ss"))


def same_unit(one: str | None, other: str | None) -> bool:
    """A unit missing on one side is no contradiction; `pounds` are money or mass."""
    if one is None or other is None or one == other:
        return True
    pair = {one, other}
    return pair == {"pound^1", "GBP^1"} or pair == {"pound^1", "lb^1"}
