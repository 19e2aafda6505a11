"""What readers make of a row: a `Sample`, or a `Reject` that says why not. Nothing is dropped without a word."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PilImage

from omni_r1.errors import InputError, OmniError
from omni_r1.files import MAX_BYTES, confined, data_uri, read_bytes
from omni_r1.trajectory import IMAGE_MARK, Image, Text

MOST_IMAGES = 64  # of a row
LONGEST_TEXT, LONGEST_ID = 100_000, 1_000  # characters
SHOWN = 300  # characters of a message


@dataclass(frozen=True)
class Picture:
    """A picture as the bytes of its file; `field` is where the row has it."""

    data: bytes = field(repr=False)
    field: str = "image"


Part = Text | Image | Picture


@dataclass(frozen=True)
class Place:
    """Where a row is: the file, or on the hub the config; and its number there, from 1."""

    file: str
    row: int


@dataclass(frozen=True)
class Sample:
    """A question, the reasoning that leads to its answer, and the answer. `meta`: what else the data set says of it.

    `options`: the choices of the question, where it has some.
    """

    id: str
    place: Place
    question: tuple[Part, ...]
    rationale: tuple[Part, ...]
    answer: str
    meta: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A row that is not used. `reason` is one of a few short words to count by, `message` is for people."""

    id: str
    place: Place
    field: str | None
    reason: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.place.file,
            "row": self.place.row,
            "id": self.id,
            "field": self.field,
            "reason": self.reason,
            "message": self.message,
        }


class RowError(OmniError):
    """A row cannot be used, for a `reason` as a Reject has it."""

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        message = " ".join(message.split())
        self.message = message if len(message) <= SHOWN else f"{message[:SHOWN]}..."
        super().__init__(self.message)
        self.reason, self.field = reason, field

    def at(self, file: Path, row: int) -> InputError:
        """For one whose row ends the run."""
        return InputError(self.message, file=file, row=row, field=self.field)

    def reject(self, name: str, place: Place) -> Reject:
        return Reject(name, place, self.field, self.reason, self.message)


def text_of(row: Mapping[str, Any], key: str, empty: str | None = None) -> str:
    """The text under a key. Where there is none it is empty or, with `empty` given, a RowError of that reason."""
    value = row.get(key)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise RowError("malformed", f"must be a text, not {type(value).__name__}", key)
    if empty is not None and not value.strip():
        raise RowError(empty, "is empty", key)
    if len(value) > LONGEST_TEXT:
        raise RowError("malformed", f"has more than {LONGEST_TEXT:,} characters", key)
    return value


def answer_of(row: Mapping[str, Any], key: str) -> str:
    """The answer under a key; JSON may have it as a number."""
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return text_of(row, key, empty="empty-answer").strip()


def options_of(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The choices under a key, none where there is nothing. Raises RowError for what is no list of texts."""
    listed = row.get(key)
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(choice, str) for choice in listed):
        raise RowError("malformed", "must be a list of texts", key)
    return tuple(listed)


def id_of(row: Mapping[str, Any], default: str) -> str:
    """The row's own `id` where it has one. Raises RowError for what is no short text or number."""
    given = row.get("id")
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, str | int | float) or len(str(given)) > LONGEST_ID:
        raise RowError("malformed", f"must be a text of at most {LONGEST_ID:,} characters", "id")
    return Text(str(given)).text  # which is valid Unicode


def is_empty(cell: Any) -> bool:
    """Whether a picture's cell has nothing in it: null, no bytes and no path."""
    if _is_struct(cell):
        return not cell.get("bytes") and not cell.get("path")
    return cell is None or cell == "" or cell == b""


def _is_struct(cell: Any) -> bool:
    return isinstance(cell, dict) and cell.keys() <= {"bytes", "path"}


def picture_of(cell: Any, key: str, root: Path | None) -> Picture:
    """The picture in a cell: a struct of bytes and path as data sets store it, bytes, a path below `root`, a data URI,
    or PIL's.

    Raises RowError: `missing-image` where there is none, `malformed` for another type.
    """
    if is_empty(cell):
        raise RowError("missing-image", "has no picture", key)
    if _is_struct(cell):
        cell = cell.get("bytes") or cell["path"]
    if isinstance(cell, PilImage.Image):
        content = io.BytesIO()
        cell.convert("RGBA" if "A" in cell.getbands() or "transparency" in cell.info else "RGB").save(content, "PNG")
        return Picture(content.getvalue(), key)
    if isinstance(cell, bytes):
        if len(cell) > MAX_BYTES:
            raise RowError("broken-image", f"has more than {MAX_BYTES:,} bytes", key)
        return Picture(cell, key)
    if not isinstance(cell, str):
        raise RowError("malformed", f"is no picture but {type(cell).__name__}", key)
    if cell.startswith("data:"):
        try:
            return Picture(data_uri(cell), key)
        except InputError as error:
            raise RowError("broken-image", error.message, key) from error
    if root is None:
        raise RowError("missing-image", f"{cell[:200]!r} is a path, and its file did not come with the row", key)
    try:
        return Picture(read_bytes(confined(root, cell)), key)
    except InputError as error:
        raise RowError("missing-image", error.message, key) from error
    except OSError as error:
        raise RowError("missing-image", f"{cell[:200]!r} cannot be read: {error.strerror}", key) from error


def with_marks(text: str, pictures: Sequence[Part], key: str) -> list[Part]:
    """Text with each `<image>` replaced by the next picture. Raises RowError where they differ in number."""
    pieces = text.split(IMAGE_MARK)
    if len(pieces) - 1 != len(pictures):
        raise RowError("image-count", f"{len(pieces) - 1} {IMAGE_MARK} marks for {len(pictures)} pictures", key)
    out: list[Part] = [Text(pieces[0])]
    for picture, piece in zip(pictures, pieces[1:], strict=True):
        out += [picture, Text(piece)]
    return out
