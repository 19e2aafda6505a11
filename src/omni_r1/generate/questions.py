"""Questions, and how they are read from JSONL: text with `<image>` marks, and where the pictures are.

Pictures are opened only when their question's turn comes, so a run holds a batch of them and not all.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from omni_r1.errors import InputError, OmniError
from omni_r1.files import confined, fetch, open_image, read_jsonl
from omni_r1.trajectory import IMAGE_MARK

Source = Path | bytes | str  # a file, its content, or an address


@dataclass
class Question:
    """A question (`<image>` marks in its text), its pictures, and what is known of its answer.

    `row`: its number in its file, from 1. `where`: file and row, for errors. With `error` set the question could not
    be read and is only carried through to its record.
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

    def open_images(self) -> list[Picture.Image]:
        """Its pictures. Raises InputError naming file, row and picture."""
        return [open_source(source, self.where) for source in self.images]


def open_source(source: Source, where: dict[str, Any]) -> Picture.Image:
    try:
        return open_image(fetch(source) if isinstance(source, str) else source)
    except InputError as error:
        name = "" if isinstance(source, bytes) else f"{source}: "
        raise InputError(f"{name}{error.message}", field="images", **where) from error


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
        name = f"row {number}"
        try:
            if isinstance(row, InputError):
                raise row
            name = name if row.get("id") is None else str(row["id"])
            if name in seen:
                raise InputError(f"{name!r} is the id of row {seen[name]} already", field="id", **where)
            seen[name] = number
            text, images = _content(row, root, allow_network)
            questions.append(Question(name, text, images, row=number, where=where))
        except InputError as error:
            located = InputError(error.message, field=error.field, **where)
            name = f"row {number}" if seen.get(name) != number else name  # a second row of that id
            questions.append(Question(name, error=located, row=number, where=where))
    if not questions:
        raise InputError("no rows", file=path)
    return questions


def input_files(path: Path) -> Iterator[Path]:
    """The file itself, or the JSONL files of a folder by name. Raises InputError where there is none."""
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.iterdir() if file.suffix == ".jsonl")
    if not found:
        raise InputError("no *.jsonl in this folder", file=path, field="input")
    yield from found


def _content(row: dict[str, Any], root: Path, allow_network: bool) -> tuple[str, list[Source]]:
    prompt, listed = row.get("prompt"), row.get("images", [])
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("must be a text that is not empty", field="prompt")
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise InputError("must be a list of paths", field="images")
    if "image" in row and "images" not in row:
        raise InputError("is not read: pictures are listed in `images`", field="image")
    marks = prompt.count(IMAGE_MARK)
    if marks and marks != len(listed):
        raise InputError(f"{marks} {IMAGE_MARK} marks for {len(listed)} images", field="prompt")
    return prompt, [_source(item, root, allow_network) for item in listed]


def _source(item: str, root: Path, allow_network: bool) -> Source:
    if item.startswith("data:"):
        head, comma, body = item.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{item[:40]!r}... is no base64 data URI", field="images")
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"is no base64: {error}", field="images") from error
    if item.lower().startswith(("http://", "https://")):
        if not allow_network:
            raise InputError(f"{item} is on the network; --allow-network fetches it", field="images")
        return item
    try:
        return confined(root, item)
    except InputError as error:
        raise InputError(error.message, field="images") from error
