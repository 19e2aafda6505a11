"""Questions, and how they are read from JSONL: text with `<image>` marks, and where the pictures are.

Pictures are opened only when their question's turn comes, so a run holds a batch of them and not all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from omni_r1.errors import InputError, OmniError
from omni_r1.files import confined, data_uri, fetch, open_image, read_jsonl
from omni_r1.pixels import opaque
from omni_r1.trajectory import IMAGE_MARK, counted

Source = Path | bytes | str  # a file, its content, or an address
MOST_IMAGES = 64  # of a question
LONGEST_PROMPT, LONGEST_ID = 100_000, 1_000  # characters


@dataclass
class Question:
    """A question (`<image>` marks in its text), its pictures, and what is known of its answer.

    `row`: its number in its file, from 1. `where`: file and row, for errors; and what the row calls its text and its
    pictures. With `error` set the question could not be read and is only carried through to its record.
    """

    id: str
    text: str = ""
    images: Sequence[Source] = field(default_factory=list)
    task: str | None = None
    gold: str | None = None
    gold_images: Sequence[Source] = field(default_factory=list)
    error: OmniError | None = None
    row: int = 0
    where: dict[str, Any] = field(default_factory=dict)
    text_field: str = "prompt"
    images_field: str = "images"


def open_source(source: Source, where: dict[str, Any], field: str = "images") -> Picture.Image:
    """A picture, RGB on white. Raises InputError at the place given."""
    try:
        image = open_image(fetch(source) if isinstance(source, str) else source)
        try:
            return opaque(image)
        except ValueError as error:  # a colour space that Pillow reads and cannot convert
            raise InputError(f"cannot be used: {error}") from error
    except InputError as error:
        name = "" if isinstance(source, bytes) else f"{short(source)}: "
        raise InputError(f"{name}{error.message}", field=field, **where) from error


def read_questions(path: Path, root: Path, allow_network: bool = False) -> list[Question]:
    """Questions of a JSONL file: `prompt`, `images` (paths under `root`, data URIs or addresses), and `id` (default:
    the row's number).

    A row that cannot be used becomes a Question with `error`, naming file, row and field. Raises InputError for a
    file without rows.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where: dict[str, Any] = {"file": path, "row": number}
        name, error = f"row {number}", row if isinstance(row, InputError) else None
        text, images = "", list[Source]()
        try:
            if isinstance(row, dict):
                name = id_of(row, number)
                text, images = _content(row, root, allow_network)
        except InputError as wrong:
            error = wrong
        name, twice = enter(name, number, seen)
        error = error or twice
        if error:
            located = InputError(error.message, field=error.field, **where)
            questions.append(Question(name, error=located, row=number, where=where))
        else:
            questions.append(Question(name, text, images, row=number, where=where))
    if not questions:
        raise InputError("no rows", file=path)
    return questions


def id_of(row: dict[str, Any], number: int) -> str:
    """A row's id, by default its number. Raises InputError for what is no short text or number."""
    given = row.get("id")
    if given is None:
        return f"row {number}"
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise InputError("must be a text", field="id")
    if len(str(given)) > LONGEST_ID:
        raise InputError(f"has more than {LONGEST_ID:,} characters", field="id")
    return str(given)


def enter(name: str, number: int, seen: dict[str, int]) -> tuple[str, InputError | None]:
    """Enter a row's name among those `seen`: a name that no other row has, and the error where it was not free."""
    error = InputError(f"{name!r} is the id of row {seen[name]} already", field="id") if name in seen else None
    if error:
        name = f"row {number}"
    while name in seen:  # as another row's id
        name += " again"
    seen[name] = number
    return name, error


def short(text: object) -> str:
    """For an error: what a file has for a path may be of any length."""
    whole = str(text)
    return whole if len(whole) <= 200 else f"{whole[:200]}..."


def input_files(path: Path) -> Iterator[Path]:
    """The file itself, or the JSONL files of a folder by name. Raises InputError where there is none."""
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.iterdir() if file.suffix == ".jsonl")
    if not found:
        raise InputError("no *.jsonl in this folder", file=path, field="input")
    for file in found:
        if not file.is_file():  # a pipe would be waited for
            raise InputError("is no regular file", file=file, field="input")
        if file.stem in (".", ".."):  # its answers go into a folder of that name
            raise InputError("is no name for a file of questions", file=file, field="input")
    yield from found


def _content(row: dict[str, Any], root: Path, allow_network: bool) -> tuple[str, list[Source]]:
    prompt, listed = row.get("prompt"), [] if row.get("images") is None else row["images"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("must be a text that is not empty", field="prompt")
    if len(prompt) > LONGEST_PROMPT:
        raise InputError(f"has more than {LONGEST_PROMPT:,} characters", field="prompt")
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise InputError("must be a list of paths", field="images")
    if "image" in row and "images" not in row:
        raise InputError("is not read: pictures are listed in `images`", field="image")
    if len(listed) > MOST_IMAGES:
        raise InputError(f"has {len(listed)} pictures, more than {MOST_IMAGES}", field="images")
    marks = prompt.count(IMAGE_MARK)
    if marks and marks != len(listed):
        told = f"{counted(marks, f'{IMAGE_MARK} mark')} for {counted(len(listed), 'image')}"
        raise InputError(told, field="prompt")
    return prompt, [_source(item, root, allow_network) for item in listed]


def _source(item: str, root: Path, allow_network: bool) -> Source:
    if item.lower().startswith(("http://", "https://")):
        if not allow_network:
            raise InputError(f"{short(item)} is on the network; --allow-network fetches it", field="images")
        return item
    try:
        return data_uri(item) if item.startswith("data:") else confined(root, item)
    except InputError as error:
        raise InputError(error.message, field="images") from error
