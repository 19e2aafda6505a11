"""Where rows come from: JSONL, parquet, a folder of either, or a data set of the hub; row by row, never all at once.

Rows are in parts. A part of a folder of parquet is a config, named as its folder is; of JSONL it is a file.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import metadata_load
from huggingface_hub.utils import validate_repo_id

from omni_r1.data.sample import Place, RowError
from omni_r1.errors import InputError
from omni_r1.files import read_jsonl, sha256

FILES = (".jsonl", ".parquet")
ROWS_AT_ONCE = 4  # of parquet: a row may have twenty pictures
BUFFER = 1 << 20  # bytes read of a column at a time, instead of all that a row group has of it
DEFAULT = "default"  # the config of parquet that lies in no folder of its own
SPLIT = re.compile(r"(train|validation|valid|val|dev|test)(?![a-z])", re.IGNORECASE)


class Raw(NamedTuple):
    """A row as it stands: `root` is the folder its paths are below; `value` is a RowError where it is none."""

    place: Place
    root: Path | None
    value: dict[str, Any] | RowError


@dataclass(frozen=True)
class Part:
    """Rows that belong together: files of a folder, which `base` is."""

    name: str
    base: Path
    files: Sequence[Path]

    def rows(self, skip: int) -> Iterator[Raw]:
        """All rows after the first `skip`. Raises InputError for a file that cannot be read."""
        for file in self.files:
            shown = str(file.relative_to(self.base))
            if file.suffix == ".jsonl":
                for number, row in read_jsonl(file):
                    if skip:
                        skip -= 1
                        continue
                    value = RowError("malformed", row.message) if isinstance(row, InputError) else row
                    yield Raw(Place(shown, number), file.parent, value)
                continue
            count = _opened(file).num_rows
            for number, value in parquet_rows(file, skip):
                yield Raw(Place(shown, number), file.parent, value)
            skip = max(0, skip - count)


@dataclass(frozen=True)
class HubPart:
    """A config of a data set of the hub, streamed."""

    name: str
    repository: str
    split: str
    revision: str

    def rows(self, skip: int) -> Iterator[Raw]:
        import datasets

        try:
            stream = datasets.load_dataset(
                self.repository, self.name, split=self.split, revision=self.revision, streaming=True
            ).decode(False)
            for number, value in enumerate(stream.skip(skip), skip + 1):
                yield Raw(Place(f"{self.name}/{self.split}", number), None, value)
        except Exception as error:  # the library raises what it likes, and so does whatever it reaches the hub with
            raise InputError(_words(error), file=f"{self.repository}, {self.name}", field="input") from error


@dataclass(frozen=True)
class Source:
    """A data set: what it is called, its parts, and what is known of it.

    `files`: name and sha256 of each local file; by them and the revision it is known to be the same again. `total`: its
    rows, where that is known beforehand.
    """

    name: str
    parts: Sequence[Part | HubPart]
    revision: str | None = None
    licence: str | None = None
    files: list[tuple[str, str]] = field(default_factory=list)
    total: int | None = None

    @property
    def made_of(self) -> dict[str, Any]:
        """What decides its rows."""
        return {"revision": self.revision, "configs": [part.name for part in self.parts], "files": self.files}


def open_source(name: str, configs: Sequence[str], split: str, revision: str | None, first: str) -> Source:
    """A local path, or the name of a data set of the hub. In a folder with both, files ending in `first` are read.

    Raises InputError naming the option at fault.
    """
    path = Path(name)
    if not path.exists():
        if path.suffix in FILES:
            raise InputError("no such file", file=path, field="input")
        return _on_hub(name, configs, split, revision)
    if revision is not None:
        raise InputError("files have no revisions, only a data set of the hub has", field="revision")
    if path.is_file():
        if path.suffix not in FILES:
            raise InputError("is neither .jsonl nor .parquet", file=path, field="input")
        base, groups = path.parent, {path.stem: [path]}
    else:
        base, groups = path, _groups(path, split, first)
    names = _chosen(list(groups), configs)
    files = [file for each in names for file in groups[each]]
    for file in files:
        if not file.is_file():  # a pipe would be waited for
            raise InputError("is no regular file", file=file, field="input")
    counts = [_opened(file).num_rows for file in files if file.suffix == ".parquet"]
    return Source(
        name,
        [Part(each, base, groups[each]) for each in names],
        licence=_licence(base / "README.md"),
        files=[(str(file.relative_to(base)), sha256(file)) for file in files],
        total=sum(counts) if len(counts) == len(files) else None,
    )


def _groups(folder: Path, split: str, first: str) -> dict[str, list[Path]]:
    """The files of a folder by part: parquet of the split, wherever it lies below, or the JSONL in it."""
    parquet = [file for file in sorted(folder.rglob("*.parquet")) if not _hidden(file.relative_to(folder))]
    lines = sorted(folder.glob("*.jsonl"))
    if lines and (first == ".jsonl" or not parquet):
        return {file.stem: [file] for file in lines}
    if not parquet:
        raise InputError("no *.parquet and no *.jsonl in this folder", file=folder, field="input")
    groups: dict[str, list[Path]] = {}
    others = set()
    for file in parquet:
        parent = file.parent.relative_to(folder)
        match = SPLIT.match(file.name)
        if SPLIT.fullmatch(parent.name):  # as the hub lays out what it converts
            match, parent = SPLIT.fullmatch(parent.name), parent.parent
        if match and match[1].lower() != split:
            others.add(match[1].lower())
            continue
        name = parent.as_posix()
        groups.setdefault(DEFAULT if name in (".", "data") else name, []).append(file)
    if not groups:
        raise InputError(f"{folder} has {', '.join(sorted(others))}, not {split!r}", field="split")
    return groups


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _on_hub(name: str, configs: Sequence[str], split: str, revision: str | None) -> Source:
    import datasets

    try:
        validate_repo_id(name)
        found = HfApi().dataset_info(name, revision=revision)
        names = datasets.get_dataset_config_names(name, revision=found.sha)
    except HFValidationError:
        raise InputError("no such file or folder", file=name, field="input") from None
    except Exception as error:  # as in HubPart
        message = f"no such file or folder, and not to be had from the hub: {_words(error)}"
        raise InputError(message, file=name, field="input") from error
    licence = found.card_data.get("license") if found.card_data else None
    parts = [HubPart(each, name, split, str(found.sha)) for each in _chosen(names, configs)]
    return Source(name, parts, found.sha, None if licence is None else str(licence))


def _chosen(names: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The parts asked for, all where none is; `Chess` will do for `Visual Logic & Strategic Games - Chess`."""
    for each in asked:
        if not any(_is(name, each) for name in names):
            nearest = difflib.get_close_matches(each, names, n=1, cutoff=0)[0]
            raise InputError(f"no {each!r}; the nearest of {len(names)} is {nearest!r}", field="configs")
    return [name for name in names if not asked or any(_is(name, each) for each in asked)]


def _is(name: str, asked: str) -> bool:
    return name == asked or name.endswith(f" - {asked}")


def parquet_rows(file: Path, skip: int) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Rows of a parquet after the first `skip`, with their numbers from 1. A value that is none spoils only its row.

    Raises InputError where the file cannot be read.
    """
    number = 0
    try:
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as opened:
            for group in range(opened.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                if number + count <= skip:
                    number += count
                    continue
                for batch in opened.iter_batches(ROWS_AT_ONCE, row_groups=[group], use_threads=False):
                    for place in range(batch.num_rows):
                        number += 1
                        if number > skip:
                            yield number, _row(batch, place)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot be read after row {number}: {_words(error)}", file=file, field="input") from error


def _row(batch: pa.RecordBatch, place: int) -> dict[str, Any] | RowError:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[place].as_py()
        except ValueError as error:  # a text that is no UTF-8
            return RowError("malformed", f"cannot be read: {_words(error)}", name)
    return row


def _opened(file: Path) -> pq.FileMetaData:
    """What a parquet says of itself. Raises InputError where it is none, or two columns have one name."""
    try:
        metadata = pq.read_metadata(file)
        names = metadata.schema.to_arrow_schema().names
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot be read: {_words(error)}", file=file, field="input") from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError("is the name of two columns", file=file, field=twice)
    return metadata


def _licence(card: Path) -> str | None:
    """The licence that a data set's card states."""
    try:
        stated = metadata_load(card) if card.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):  # a licence is good to know, and no more
        return None
    licence = stated.get("license") if isinstance(stated, dict) else None
    return None if licence is None else str(licence)


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else f"{words[:300]}..."
