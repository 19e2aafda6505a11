"""The one parser of all verbs' options: HfArgumentParser's conventions, without its imports.

`--config recipe.yaml` first, further ones override it, flags all of them; dashes and underscores are equal; a switch is
`--NAME`, `--no-NAME` or `--NAME false`. Words without a flag are the option that is a list, where a verb has one. An
unknown name or a wrong type is an InputError that names the option. Imports nothing heavy.
"""

import argparse
import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml

from omni_r1.errors import InputError

T = TypeVar("T")


def option(default: Any = dataclasses.MISSING, *, help: str, alias: str | None = None) -> Any:
    return field(default=default, metadata={"help": help, "alias": alias})


def parse(cls: type[T], words: Sequence[str], verb: str) -> T:
    """Read the words after `omni-r1 VERB` into the verb's options.

    `--help` prints every option and exits. Raises InputError naming the option at fault.
    """
    names, hints = _names(cls), typing.get_type_hints(cls)
    flags, rest = _parser(cls, verb, hints).parse_known_args([_dashed(word) for word in words])
    if flag := next((word for word in rest if word.startswith("-")), None):
        raise _unknown(flag.partition("=")[0], [_flag(name) for name in (*names, "config")])
    given = vars(flags)
    listed = next((name for name, hint in hints.items() if _kind(hint)[0] == list[str]), None)
    if rest and (listed is None or listed in given):
        raise InputError(f"unexpected {rest[0]!r}: options are --NAME VALUE")
    if rest and listed:
        given[listed] = rest
    values: dict[str, Any] = {}
    for recipe in given.pop("config", []):
        values |= _read_recipe(recipe, names, hints)
    for name, value in given.items():
        values[name] = _convert(value, hints[name], name)
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        if item.name not in values and item.default is dataclasses.MISSING:
            raise InputError("is required", field=item.name)
    return cls(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser(cls: type, verb: str, hints: dict[str, Any]) -> argparse.ArgumentParser:
    """Flags only: every value stays text, absent options stay absent, and `_convert` does the rest."""
    words = next((f" {_metavar(_kind(hint)[0])} ..." for hint in hints.values() if _kind(hint)[0] == list[str]), "")
    parser = _Parser(
        usage=f"omni-r1 {verb}{words} [options]",
        description=cls.__doc__,
        epilog="Switches are turned off by --no-NAME. Options and recipe keys may be written with _ or -.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    about = "read options from a YAML file; may be given again, and what comes later overrides it, flags last"
    parser.add_argument("--config", metavar="RECIPE.yaml", action="append", help=about)
    for item in dataclasses.fields(cls):
        kind, _ = _kind(hints[item.name])
        text, alias = item.metadata["help"], item.metadata["alias"]
        if alias:
            text += f"; also {_flag(alias)}"
            parser.add_argument(_flag(alias), dest=item.name, help=argparse.SUPPRESS)
        required = item.default is dataclasses.MISSING
        text += " (required)" if required else f" (default: {_shown(item.default, kind)})"
        parser.add_argument(
            _flag(item.name),
            dest=item.name,
            metavar=_metavar(kind),
            nargs={bool: "?", list[str]: "+"}.get(kind),
            const="true" if kind is bool else None,
            help=text.replace("%", "%%"),
        )
        if kind is bool:
            off: dict[str, Any] = {"action": "store_const", "const": "false", "help": argparse.SUPPRESS}
            parser.add_argument(_flag(f"no_{item.name}"), dest=item.name, **off)
    return parser


def _read_recipe(path: str, names: dict[str, str], hints: dict[str, Any]) -> dict[str, Any]:
    """Options of a YAML file, converted. Raises InputError naming the file and the key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        recipe, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date that cannot be
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from error
    if not isinstance(recipe, dict):
        raise InputError("a recipe is a mapping of option names to values", file=path)
    keys = [str(key.value) for key, _ in node.value]  # `recipe` has the last of those that are given twice
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise InputError("is given twice", file=path, field=twice)
    values: dict[str, Any] = {}
    for key, value in recipe.items():
        name = names.get(str(key).replace("-", "_"))
        if name is None:
            raise _unknown(str(key), names, path)
        if name in values:
            raise InputError("is given twice", file=path, field=name)
        values[name] = _convert(value, hints[name], name, path)
    return values


def _convert(value: Any, hint: Any, name: str, file: str | None = None) -> Any:
    """The text of a flag or the value of a YAML key as the field's type. Raises InputError."""
    kind, may_be_none = _kind(hint)
    if may_be_none and str(value).lower() == "none" and "none" not in typing.get_args(kind):
        return None
    if typing.get_origin(kind) is Literal:
        if value in typing.get_args(kind):
            return value
    elif kind is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    elif kind is str:
        if isinstance(value, str):
            return value
    elif kind == list[str]:
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return value
    elif kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML reads 1e-5 as text, so numbers may be text there too.
        with contextlib.suppress(ValueError, OverflowError):
            number = kind(value)
            if math.isfinite(number) and (isinstance(value, str) or number == value):
                return number
    raise InputError(f"must be {_wanted(kind)}, not {value!r}", file=file, field=name)


def _kind(hint: Any) -> tuple[Any, bool]:
    """The type of a hint `X` or `X | None`, and whether None will do."""
    arms = typing.get_args(hint)
    if type(None) in arms:
        return next(arm for arm in arms if arm is not type(None)), True
    return hint, False


def _wanted(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list[str]: "texts"}
    return wanted[kind]


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    return {bool: "true|false", int: "INT", float: "FLOAT", str: "TEXT", list[str]: "TEXT"}[kind]


def _shown(default: Any, kind: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if default is None:
        return "left out" if "none" in typing.get_args(kind) else "none"
    return str(default)


def _names(cls: type) -> dict[str, str]:
    """Accepted names, aliases included, and the field each stands for."""
    names = {item.name: item.name for item in dataclasses.fields(cls)}
    return names | {item.metadata["alias"]: item.name for item in dataclasses.fields(cls) if item.metadata["alias"]}


def _unknown(name: str, known: Iterable[str], file: str | None = None) -> InputError:
    return InputError(f"unknown option {name}{nearest(name, known) or '; --help lists them'}", file=file)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest is X`, for what may be a slip of X or its begin; empty where nothing is near."""
    bare = {one.strip("-"): one for one in known}  # dashes would make all options alike
    asked = name.strip("-")
    near = difflib.get_close_matches(asked, bare, n=1) or [one for one in bare if asked and one.startswith(asked)]
    return f"; the nearest is {bare[near[0]]}" if near else ""


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word
