"""Shards of token ids: parquet files that `omni-r1 tokenize` and `bootstrap` make, and how a trainer reads them.

A row group holds few rows and pages have checksums, so that any row is read from the mapped file in a moment, nothing
is unpacked into a cache, and any number of processes may read the same folder.
"""

import bisect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from omni_r1.errors import InputError
from omni_r1.files import MAX_BYTES, read_bytes
from omni_r1.vocabulary import IGNORED, Rendered, Vocabulary

SHARDS, MANIFEST = "shards", "manifest.json"
FORMAT_VERSION = 2  # since rows have their choices
GROUP = 8  # rows read together
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("image_spans", pa.list_(pa.list_(pa.int32()))),
        ("length", pa.int32()),
        ("options", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class TokenRow:
    """A row of a shard: ids (T,), its first `prompt_length` no targets; (start, end) of each image, BOI to EOI; and the
    choices of the question, where it has some."""

    id: str
    ids: np.ndarray
    prompt_length: int
    spans: list[tuple[int, int]]
    options: Sequence[str]

    @classmethod
    def of(cls, name: str, rendered: Rendered, vocabulary: Vocabulary, options: Sequence[str]) -> "TokenRow":
        whole = vocabulary.image_length + 2
        spans = [(place, place + whole) for place, token in enumerate(rendered.ids) if token == vocabulary.boi]
        return cls(name, np.array(rendered.ids, np.int32), rendered.first_target, spans, options)

    @property
    def target_images(self) -> int:
        return sum(start >= self.prompt_length for start, _ in self.spans)


def shard_bytes(rows: list[TokenRow]) -> bytes:
    """The content of a shard."""
    columns = {
        "id": [row.id for row in rows],
        "input_ids": [row.ids for row in rows],
        "loss_mask": [np.arange(len(row.ids)) >= row.prompt_length for row in rows],
        "image_spans": [[list(span) for span in row.spans] for row in rows],
        "length": [len(row.ids) for row in rows],
        "options": [list(row.options) or None for row in rows],
    }
    out = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, SCHEMA),
        out,
        row_group_size=GROUP,
        compression="zstd",
        write_statistics=False,
        write_page_checksum=True,
    )
    return out.getvalue().to_pybytes()


class TokenDataset(Dataset):
    """Rows of a folder made by `omni-r1 tokenize` or `bootstrap`.

    Raises InputError for a folder that is not finished, was made with another vocabulary, is damaged, or has a row of
    more than `max_length` tokens.
    """

    def __init__(self, folder: str | Path, vocabulary: Vocabulary, max_length: int | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        made, asked = self.manifest["vocabulary"], vocabulary.digest
        if made != asked:
            message = f"{str(made)[:12]} is not this checkpoint's, {asked[:12]}: its ids mean something else there"
            raise InputError(message, file=self.folder / MANIFEST, field="vocabulary")
        self.size = vocabulary.size
        self.files: list[Path] = []
        self.lengths: list[int] = []
        self.starts: list[int] = []  # of each file, the number of its first row
        self._metadata: list[pq.FileMetaData] = []
        for shard in self.manifest["shards"]:
            self._add(shard)
        if max_length is not None and (longest := max(self.lengths)) > max_length:
            place = self.lengths.index(longest)
            count = sum(length > max_length for length in self.lengths)
            message = f"{longest} tokens, more than max_length {max_length}, as {count} of {len(self)} rows have"
            raise InputError(message, file=self.folder, field=self._name(place))

    def _add(self, shard: dict[str, Any]) -> None:
        file = self.folder / SHARDS / Path(shard["file"]).name
        try:
            if file.stat().st_size != shard["bytes"]:
                raise InputError(f"has {file.stat().st_size} bytes, not {shard['bytes']}", file=file)
            with pq.ParquetFile(file, memory_map=True) as opened:
                if opened.metadata.num_rows != shard["rows"] or not opened.schema_arrow.equals(SCHEMA):
                    raise InputError("is not the shard that the manifest tells of", file=file)
                lengths = opened.read(["length"], use_threads=False).column(0).to_pylist()
                metadata = opened.metadata
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot be read: {error}", file=file) from error
        self.files.append(file)
        self.starts.append(len(self.lengths))
        self._metadata.append(metadata)
        self.lengths += lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def length(self, index: int) -> int:
        """Tokens of a row, which is not read for it."""
        return self.lengths[index]

    def _place(self, index: int) -> tuple[int, int]:
        """Which file a row is in, and its place there, from 0."""
        file = bisect.bisect_right(self.starts, index) - 1
        return file, index - self.starts[file]

    def _name(self, index: int) -> str:
        file, place = self._place(index)
        return f"{self.files[file].name}:{place + 1}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`input_ids` (T,) and `labels` (T,), -100 where there is no target; `name`: file, row from 1, and id;
        `options`: the choices of the question, None where it has none."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        file, place = self._place(index)
        path = self.files[file]
        try:
            # Opened each time: nothing is shared with the processes that a data loader forks.
            with pq.ParquetFile(
                path, metadata=self._metadata[file], memory_map=True, page_checksum_verification=True
            ) as opened:
                columns = ["id", "input_ids", "loss_mask", "options"]
                group = opened.read_row_group(place // GROUP, columns, use_threads=False)
                row = {name: group.column(name)[place % GROUP] for name in columns}
        except (OSError, IndexError, pa.ArrowException) as error:
            raise InputError(f"cannot be read: {error}", file=path, row=place + 1) from error
        ids = torch.tensor(row["input_ids"].values.to_numpy()).long()
        target = torch.tensor(row["loss_mask"].values.to_numpy(zero_copy_only=False))
        if (
            len(ids) != self.lengths[index]
            or len(target) != len(ids)
            or not bool(((ids >= 0) & (ids < self.size)).all())
        ):
            raise InputError("is damaged", file=path, row=place + 1, field="input_ids")
        name = f"{self._name(index)} ({row['id'].as_py()})"
        labels = ids.masked_fill(~target, IGNORED)
        return {"input_ids": ids, "labels": labels, "name": name, "options": row["options"].as_py()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished folder says of itself. Raises InputError for any other folder."""
    file = folder / MANIFEST
    if not file.is_file():
        unfinished = "it is not finished; the command that began it goes on, or says why it cannot"
        known = folder.is_dir() and (folder / SHARDS).is_dir()
        raise InputError(
            f"no {MANIFEST}: {unfinished if known else 'not a folder of omni-r1 tokenize or bootstrap'}", file=folder
        )
    try:
        manifest = json.loads(read_bytes(file, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", file=file) from error
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(f"is not of format {FORMAT_VERSION}", file=file, field="format_version")
    shards = manifest.get("shards")
    if not isinstance(manifest.get("vocabulary"), str) or not isinstance(shards, list) or not shards:
        raise InputError("has no vocabulary or no shards", file=file)
    for shard in shards:
        if not isinstance(shard, dict) or not {"file", "rows", "bytes"} <= shard.keys() or not shard["rows"]:
            raise InputError("has a shard without file, rows or bytes", file=file, field="shards")
        if not isinstance(shard["file"], str):
            raise InputError("has a shard whose file is no name", file=file, field="shards")
    return manifest
