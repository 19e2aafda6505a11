"""Where a suite's rows are: a file, a folder, or a data set of the hub; and its rows, one at a time and bounded."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from omni_r1.errors import InputError
from omni_r1.files import confined, not_had, read_bytes, read_jsonl, sha256
from omni_r1.generate.questions import short

SUFFIXES = (".parquet", ".jsonl", ".json")
MAX_ROWS = 100_000
ROOM = 256 * 1024 * 1024  # bytes that the parquet of a suite may unpack to,
EXPANSION = 4  # or so many times its own size: pictures do not compress, what does is a bomb


@dataclass(frozen=True)
class Files:
    """The files of a suite, and the folder that the paths in them are below.

    `root` is what no path may leave, links followed: the hub's cache has its files beside the `folder` that links them.
    """

    name: str
    folder: Path
    paths: Sequence[Path]
    revision: str | None = None

    @property
    def root(self) -> Path:
        return self.folder if self.revision is None else self.folder.parents[1]

    def picture(self, path: str, file: Path) -> Path:
        """A picture that a row of `file` names: below the data, or else beside the file. Raises InputError where its
        path leaves the data."""
        places = [confined(self.root, folder.relative_to(self.root) / path) for folder in (self.folder, file.parent)]
        return next((place for place in places if place.is_file()), places[0])

    @property
    def origin(self) -> dict[str, Any]:
        sums = {str(path.relative_to(self.folder)): sha256(path) for path in self.paths}
        return {"data": self.name, "revision": self.revision, "files": sums}


def find(data: str, revision: str | None, split: str | None, pictures: Sequence[str] = ()) -> Files:
    """The files of `data`: a path, or the name of a data set of the hub, which is downloaded at `revision`.

    In a folder only files named after `split` count, or all where the folder itself is; a data set is downloaded with
    what the patterns `pictures` match. Raises InputError naming the option at fault.
    """
    path = Path(data)
    if path.exists() and revision is not None:
        raise InputError("files have no revisions, only a data set of the hub has", field="revision")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"is none of {', '.join(SUFFIXES)}", file=path, field="data")
        return Files(data, path.parent, [path])
    if path.exists() and not path.is_dir():
        raise InputError("is no regular file", file=path, field="data")
    folder = path if path.is_dir() else _download(data, revision, pictures)
    found = [file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES and file.is_file()]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not found:
        raise InputError("no *.parquet, *.jsonl or *.json in it", file=data, field="data")
    named = [file for file in found if split and of_split(file.relative_to(folder), split)]
    if split and not named and folder.resolve().name.lower() == split.lower():
        named = found
    if split and not named and len(found) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in found[:6])
        raise InputError(f"none of {len(found)} files is named after {split!r}: {names}", file=data, field="split")
    return Files(data, folder, named or found, None if path.is_dir() else folder.name)


def of_split(path: Path, split: str) -> bool:
    """`test-00000-of-00001.parquet`, `test.jsonl`, `default/test/0000.parquet`, `vicbench__maze_stage1.json`."""
    words = path.stem.lower().replace("__", "-").replace("_", "-").split("-")
    return split.lower() in (*words, path.parent.name.lower())


def _download(name: str, revision: str | None, pictures: Sequence[str]) -> Path:
    if name.endswith(SUFFIXES):
        raise InputError("no such file", file=name, field="data")
    patterns = [f"*{suffix}" for suffix in SUFFIXES] + list(pictures)
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise InputError("no such file or folder", file=name, field="data") from None
    except (HfHubHTTPError, OSError) as error:  # OSError: offline, or the name is neither cached nor reachable
        message = f"no such file or folder, and not to be had from the hub: {not_had(error)}"
        raise InputError(message, file=name, field="data") from error


def rows(path: Path, required: Sequence[str] = (), wanted: Sequence[str] | None = None) -> Iterator[Any]:
    """Each row of a file, an InputError in place of one that is none. Raises InputError for the file itself.

    `required`: columns that a parquet must have; `wanted`: those that are read of it, all where None. What else is
    text, numbers or flags comes along.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path, required, wanted)
    elif path.suffix == ".jsonl":
        for _, row in read_jsonl(path):
            yield row
    else:
        yield from _json(path)


def _json(path: Path) -> Iterator[Any]:
    """A list of objects, or an object of them by id."""
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"cannot be read: {short(error)}", file=path) from error
    if isinstance(content, dict):
        nested = next((value for value in content.values() if isinstance(value, list)), None)
        content = (
            nested
            if nested is not None
            else [{"id": key, **value} if isinstance(value, dict) else value for key, value in content.items()]
        )
    if not isinstance(content, list):
        raise InputError("must be a list of objects", file=path)
    for row in content:
        yield row if isinstance(row, dict) else InputError("must be an object")


def _plain(kind: pa.DataType) -> bool:
    """Text, numbers, flags, or a list of one of these."""
    kind = kind.value_type if pa.types.is_list(kind) else kind
    types = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return any(is_one(kind) for is_one in types)


def _parquet(path: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """One row at a time: a value of a hundred megabytes may stand in every row for a few bytes of the file."""
    most = max(ROOM, EXPANSION * path.stat().st_size) if path.is_file() else ROOM
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            names = schema.names
            for column in required:
                if column not in names:
                    raise InputError("column is missing", file=path, field=column)
            columns = [
                field.name
                for field in schema
                if wanted is None or field.name in wanted or (_plain(field.type) and names.count(field.name) == 1)
            ]
            for column in columns:
                if names.count(column) > 1:
                    raise InputError("is the name of two columns", file=path, field=column)
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if file.metadata.num_rows > MAX_ROWS:
                raise InputError(f"has {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}", file=path)
            if sum(group.total_byte_size for group in groups) > most:
                raise InputError(f"unpacks to more than {most:,} bytes", file=path)
            unpacked = 0
            for batch in file.iter_batches(batch_size=1, columns=columns, use_threads=False):
                unpacked += batch.nbytes
                if unpacked > most:
                    raise InputError(f"unpacks to more than {most:,} bytes", file=path)
                yield from batch.to_pylist()
    except InputError:
        raise
    except Exception as error:  # Arrow raises its own errors, OSError, and whatever a damaged value makes of itself
        raise InputError(f"cannot be read: {short(' '.join(str(error).split()))}", file=path) from error
