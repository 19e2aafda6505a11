"""The files of a run folder as the report needs them: rows that are checked, pictures as data URIs."""

import base64
import hashlib
import html
import io
from pathlib import Path
from typing import Any

from PIL import Image as PilImage

from omni_r1.errors import InputError
from omni_r1.files import open_image, parse_line, read_jsonl, undamaged

FIELDS: dict[str, Any] = {
    "id": str, "status": str, "error": str, "task": str, "question": str, "question_images": list, "segments": list,
    "answer": str, "gold": str, "gold_images": list, "correct": bool, "reason": str, "judged": bool, "valid": bool,
    "images_whole": list, "sample": int, "source": str, "options": list, "parsed": bool, "stop": str, "tokens": int,
    "logprob": float | int, "reward": float | int, "seed": int, "control": dict,
    "rule": dict, "judge": dict,
}  # fmt: skip
LISTS = ("question_images", "segments", "gold_images")
AS_THEY_ARE = {"PNG": "png", "JPEG": "jpeg", "GIF": "gif", "WEBP": "webp"}  # formats that every browser shows
HEAVY = 48 * 1024  # bytes from which a picture is recompressed, to keep a page of thousands of them usable
LONGEST = 4096  # pixels along the edge of a recompressed picture; the format ends at 16,383
SMALL = 128  # pixels along the edge up to which a picture is shown as blocks, enlarged a whole number of times


def escape(text: object) -> str:
    """For HTML text and quoted attributes. A lone surrogate, which no file can hold, becomes `?`."""
    return html.escape(str(text).encode("utf-8", "replace").decode())


def fingerprint(text: str) -> str:
    """A source of the page's content security policy: only this style or script may run, whatever else gets in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file, {} where there is no such file. Raises InputError for any other content."""
    try:
        return parse_line(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except ValueError as error:
        raise InputError(f"malformed JSON: {error}", file=path) from error


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its lists in place. Any key may be missing or null; raises InputError for one of a wrong type."""
    for key, kind in FIELDS.items():
        if row.get(key) is not None and not isinstance(row[key], kind):
            raise InputError(f"has the wrong type, {type(row[key]).__name__}", field=key)
    row = row | {key: row.get(key) or [] for key in LISTS}
    for key in ("question_images", "gold_images"):
        if not all(isinstance(path, str) for path in row[key]):
            raise InputError("must be a list of paths", field=key)
    for segment in row["segments"]:
        match segment:
            case {"text": str()} | {"image": str(), "step": None | {"correct": bool()}}:
                pass
            case {"image": str()} if "step" not in segment:
                pass
            case _:
                raise InputError("must be texts, and images with their step", field="segments")
    return row


def read_records(path: Path) -> tuple[list[dict[str, Any]], list[InputError]]:
    """The rows of a run's log. One that cannot be used becomes a failed row, and its error is returned as well."""
    records, problems = [], []
    for number, row in read_jsonl(path):
        try:
            if isinstance(row, InputError):
                raise row
            if not undamaged(row):
                raise InputError("damaged row: checksum does not match")
            records.append(checked(row))
        except InputError as error:
            problems.append(InputError(error.message, file=path, row=number, field=error.field))
            records.append(checked({"id": f"row {number}", "status": "error", "error": str(problems[-1])}))
    return records, problems


def as_data(image: PilImage.Image, about: str, width: int) -> str:
    """A picture as HTML that holds it, `width` pixels wide or its own size times a whole number of that."""
    content = io.BytesIO()
    image.save(content, "PNG")
    blocks = max(image.size) <= SMALL
    times = max(1, width // image.width) if blocks else width / image.width
    return (
        f'<img{" class=blocks" if blocks else ""} loading="lazy" width="{int(image.width * times)}" '
        f'height="{int(image.height * times)}" alt="{escape(about)}" '
        f'src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'
    )


class Pictures:
    """Pictures of a run folder, as HTML that holds them. One that cannot be shown says so in its place."""

    def __init__(self, root: Path, width: int) -> None:
        self.root, self.width = root, width  # width: pixels there are for a picture on a page
        self.problems: list[InputError] = []
        self.large = False  # whether there was one larger than blocks

    def html(self, path: str, about: str) -> str:
        try:
            image = open_image(path, root=self.root)
            data, kind = (self.root / path).read_bytes(), AS_THEY_ARE.get(image.format or "")
        except InputError as error:
            self.problems.append(InputError(error.message, file=self.root / path, field=about))
            return f'<p class="missing">This picture {escape(error.message)}: {escape(path)}</p>'
        if kind is None or len(data) > HEAVY:
            smaller = io.BytesIO()
            image.thumbnail((LONGEST, LONGEST))
            image.convert("RGB").save(smaller, "WEBP", quality=80)
            data, kind = smaller.getvalue(), "webp"
        blocks = max(image.size) <= SMALL
        self.large |= not blocks
        times = max(1, self.width // image.width) if blocks else 1
        return (
            f'<button class="zoom" type="button"><img{" class=blocks" if blocks else ""} loading="lazy" '
            f'decoding="async" width="{image.width * times}" height="{image.height * times}" alt="{escape(about)}" '
            f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}"></button>'
        )
