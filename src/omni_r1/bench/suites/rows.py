"""Rows of a suite to questions: typed fields, pictures in every published form, one error for a row that is none."""

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni_r1.bench.statistics import OVERALL
from omni_r1.bench.suites.files import Files, rows
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError, warn
from omni_r1.generate.questions import LONGEST_PROMPT, MOST_IMAGES, Source, enter, id_of, short
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.choices import LETTERS, choice
from omni_r1.trajectory import IMAGE_MARK, counted

PICTURES = {"image", "images", "decoded_image", "steps"}  # columns that hold pictures
REMOVED = "<TLTS>"  # in place of a picture that Omni-Bench has taken out: the question is asked without it


class Row:
    """A row's fields, each read with its type. What is wrong is an InputError that names the field."""

    def __init__(self, data: dict[str, Any], files: Files, path: Path) -> None:
        self.data, self.files, self.path = data, files, path

    def text(self, field: str, *, required: bool = False) -> str | None:
        """A text, None where there is none. `required`: it must be there, and not blank."""
        value = self.data.get(field)
        if value is not None and not isinstance(value, str):
            raise InputError("must be a text", field=field)
        if required and (value is None or not value.strip()):
            raise InputError("is missing" if value is None else "is empty", field=field)
        if value is not None and len(value) > LONGEST_PROMPT:
            raise InputError(f"has more than {LONGEST_PROMPT:,} characters", field=field)
        return value

    def first(self, *fields: str) -> str:
        """The first of the fields that the row has. Raises InputError naming the first where it has none."""
        found = next((field for field in fields if self.data.get(field) is not None), None)
        if found is None:
            raise InputError("is missing", field=fields[0])
        return found

    def gold(self, field: str) -> str:
        """The gold answer: any one value as text, which is not blank."""
        value = self.data.get(field)
        if value is None or value != value or not str(value).strip():  # not a number, not a time: an empty cell
            raise InputError("is missing", field=field)
        if len(told := str(value)) > LONGEST_PROMPT:
            raise InputError(f"has more than {LONGEST_PROMPT:,} characters", field=field)
        return told

    def texts(self, field: str) -> list[str] | None:
        """A list of texts, None where there is none or an empty one."""
        value = self.data.get(field)
        if value is None or value == []:
            return None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InputError("must be a list of texts", field=field)
        return value

    def pictures(self, field: str) -> list[Source]:
        """The pictures of a cell: one or a list, each base64 text, a data URI, bytes, `{bytes, path}`, or a path where
        it ends as the name of a picture does. `<TLTS>` is none, and the only way to have none."""
        cell = self.data.get(field)
        cells = cell if isinstance(cell, list) else [cell]
        if len(cells) > MOST_IMAGES:
            raise InputError(f"has {len(cells)} pictures, more than {MOST_IMAGES}", field=field)
        if not cells:
            raise InputError("is missing: the list is empty", field=field)
        if all(one == REMOVED for one in cells):
            return []
        out = []
        for number, one in enumerate(cells, 1):
            try:
                out.append(self._picture(one, field))
            except InputError as error:
                which = f"picture {number} of {len(cells)} " if len(cells) > 1 else ""
                raise InputError(f"{which}{error.message}", field=field) from error
        return out

    def _picture(self, cell: Any, field: str) -> Source:
        if isinstance(cell, dict) and "bytes" in cell:
            cell = cell["bytes"] if cell["bytes"] is not None else cell.get("path")
        if cell is None:
            raise InputError("is missing", field=field)
        if isinstance(cell, bytes):
            return cell
        if cell == REMOVED:
            raise InputError(f"is {REMOVED}: only all of a row's may be", field=field)
        if not isinstance(cell, str):
            raise InputError("must be base64, bytes or a path, alone or in a list", field=field)
        if cell.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")):
            try:
                return self.files.picture(cell, self.path)
            except InputError as error:
                raise InputError(error.message, field=field) from error
        if cell.startswith("data:"):
            cell = cell.partition(",")[2]
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"is no base64: {short(error)}", field=field) from error


Convert = Callable[[Row], Item]


def read(
    files: Files, convert: Convert, required: Sequence[str] = (), wanted: Sequence[str] | None = None
) -> list[Item]:
    """The questions of a suite's files by `convert`, which makes one of a row and leaves its number to this.

    A row that cannot be used becomes an Item with `error`; an id that is not a row's alone is replaced by its number,
    and a warning tells how many are. Raises InputError where a file cannot be read, or there are no rows.
    """
    items: list[Item] = []
    seen: dict[str, int] = {}
    taken: list[InputError] = []
    number = 0
    for path in files.paths:
        for within, row in enumerate(rows(path, required, wanted), 1):
            number += 1
            item, twice = _item(row, number, {"file": path, "row": within}, files, convert, seen)
            items.append(item)
            taken += [twice] if twice else []
    if taken:
        told = f"{counted(len(taken), 'row')} called by their number, as their id is taken: {taken[0].message}"
        warn(f"{files.name}: {told}")
    if not items:
        raise InputError("no rows", file=files.paths[0] if len(files.paths) == 1 else files.name)
    return items


def _item(
    row: Any, number: int, where: dict[str, Any], files: Files, convert: Convert, seen: dict[str, int]
) -> tuple[Item, InputError | None]:
    """The question of a row, and the error where its id was not free."""
    name = f"row {number}"
    columns = columns_of(row) if isinstance(row, dict) else {}
    try:
        if isinstance(row, InputError):
            raise row
        name = id_of(row if row.get("id") else {}, number)
        item = convert(Row(row, files, where["file"]))
        if item.task == OVERALL:
            raise InputError(f"{OVERALL!r} is the name of the whole", field="task")
        name, twice = enter(item.id or name, number, seen)
        return replace(item, id=name, row=number, where=where, columns=columns), twice
    except InputError as error:
        name, twice = enter(name, number, seen)
        located = InputError(error.message, field=error.field, **where)
        text, task, gold = told_by(columns)
        return Item(
            name, text or "", task=task, gold=gold, error=located, row=number, where=where, columns=columns
        ), twice


def told_by(columns: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Question, task and gold answer of a row that cannot be used, as far as its columns tell: a blank one is none."""
    texts = (value if isinstance(value := columns.get(key), str) else "" for key in ("question", "task", "answer"))
    question, task, gold = (text if text.strip() else None for text in texts)
    return question, None if task == OVERALL else task, gold


def columns_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's columns without its pictures, as far as they are JSON of a bounded length."""
    kept = {}
    for name, value in row.items():
        if name not in PICTURES:
            with contextlib.suppress(TypeError, ValueError, RecursionError):  # bytes, dates, no number, too deep
                if len(json.dumps(value, allow_nan=False)) <= LONGEST_PROMPT:
                    kept[name] = value
    return kept


def with_marks(text: str, pictures: Sequence[Any]) -> str:
    """The question's text, with marks for pictures that have none behind it, if some have; and none without pictures.

    More marks than pictures are left for the error they are.
    """
    marks = text.count(IMAGE_MARK)
    if not pictures:
        return text.replace(IMAGE_MARK, "").strip()
    return text + f" {IMAGE_MARK}" * (len(pictures) - marks) if 0 < marks < len(pictures) else text


def lettered(question: str, options: Sequence[str], field: str) -> str:
    """A question with its choices, a line each. A label that an option has already is not put there twice.

    Raises InputError naming their field where they are more than there are letters for.
    """
    if len(options) > len(LETTERS):
        raise InputError(f"has {len(options)} options, more than {len(LETTERS)}", field=field)
    lines = [f"({letter}) {content}" for letter, content in zip(LETTERS, bare(options), strict=False)]
    return "\n".join([question.strip(), *lines])


def bare(options: Sequence[str]) -> list[str]:
    """Options without the labels that stand before them: `A`, `A)`, `A. text` and `(A) text` are all in use."""
    out = []
    for letter, option in zip(LETTERS, options, strict=False):
        said = choice(canonical(option))
        out.append(said.content if said is not None and said.content and said.letter == letter else option.strip())
    return out


def letter_of(row: Row, field: str, options: Sequence[str] | None) -> str:
    """The gold letter, however it is decorated: `B`, `B)`, `(B) text`, or an option's text. Raises InputError."""
    told = row.gold(field)
    said = choice(canonical(told))
    if said is not None and (options is None or str(said.letter) in LETTERS[: len(options)]):
        return str(said.letter)
    places = [place for place, content in enumerate(bare(options or ())) if content == told.strip()]
    if len(places) != 1:
        raise InputError(f"{short(told)!r} is none of the choices", field=field)
    return LETTERS[places[0]]
