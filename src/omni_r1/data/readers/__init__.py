"""Readers: data sets as they are published, to samples and rejects."""

from collections.abc import Iterator
from itertools import islice

from omni_r1.data.readers import m3cot, original, own, zebra_cot
from omni_r1.data.readers.source import Part, Raw, Source, open_source
from omni_r1.data.sample import Place, Reject, RowError, Sample, id_of
from omni_r1.options import DataFormat
from omni_r1.trajectory import IMAGE_MARK, TrajectoryError
from omni_r1.vocabulary import Vocabulary

Position = tuple[int, int]  # a part of a source, from 0, and a row in it, from 1

WITH_PICTURES = {"zebra-cot": zebra_cot.read_row, "m3cot": m3cot.read_row, "jsonl": own.read_row}
PREFERRED = {"zebra-cot": ".parquet", "m3cot": ".parquet", "original": ".jsonl", "jsonl": ".jsonl"}

__all__ = ["PREFERRED", "Place", "Position", "Reject", "Sample", "Source", "open_source", "read"]


def read(
    source: Source,
    form: DataFormat,
    vocabulary: Vocabulary,
    *,
    after: Position = (0, 0),
    limit: int | None = None,
    seen: set[str] | None = None,
    text_only: bool = False,
) -> Iterator[tuple[Position, Sample | Reject]]:
    """Every row of a source behind the position `after`, as what became of it; of each part at most `limit` rows.

    `seen`: the ids of the rows before, to which the others are added. `text_only`: rows whose reasoning has pictures
    are rejected, and no such picture is opened. Raises InputError where a file cannot be read.
    """
    seen = set() if seen is None else seen
    for index in range(after[0], len(source.parts)):
        part = source.parts[index]
        skip = after[1] if index == after[0] else 0
        rows = part.rows(skip)
        for number, raw in enumerate(rows if limit is None else islice(rows, max(0, limit - skip)), skip + 1):
            at = raw.place.row if isinstance(part, Part) and len(part.files) == 1 else number  # blank lines count there
            yield (index, number), _outcome(raw, f"{part.name}:{at}", form, vocabulary, seen, text_only)


def _outcome(
    raw: Raw, name: str, form: DataFormat, vocabulary: Vocabulary, seen: set[str], text_only: bool
) -> Sample | Reject:
    try:
        if isinstance(raw.value, RowError):
            raise raw.value
        name = id_of(raw.value, name)
        if name in seen:
            raise RowError("duplicate-id", f"{name!r} is the id of an earlier row", "id")
        seen.add(name)
        if text_only and raw.value.get("rationale_images"):
            raise RowError("drawn-already", "has drawings: tokenize takes it as it is", "rationale_images")
        if text_only and IMAGE_MARK in str(raw.value.get("rationale")):
            raise RowError("marked-up", f"has {IMAGE_MARK!r}, and no drawing for it", "rationale")
        if form == "original":
            return original.read_row(raw.value, name, raw.place, vocabulary)
        return WITH_PICTURES[form](raw.value, name, raw.place, raw.root)
    except RowError as error:
        return error.reject(name, raw.place)
    except TrajectoryError as error:  # text that is no Unicode
        return RowError("malformed", str(error)).reject(name, raw.place)
