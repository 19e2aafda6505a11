"""Hostile parquets for the bench. `ok-`, `bad-` and `any-` say what becomes of the file: whether it can be read at all.

Where it can, its rows named in `bad` fail alone.
"""

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hostile.pictures import noise, png, saved

PICTURE = base64.b64encode(saved(noise())).decode()
GOOD = {"id": "a", "task": "x", "question": "What <image>?", "image": PICTURE, "answer": "red"}


def table(**columns: Any) -> pa.Table:
    """Rows as `GOOD`, with some columns changed: their first and last value stay good, so that these rows may pass."""
    count = max((len(values) for values in columns.values() if isinstance(values, list | pa.Array)), default=1)
    whole = {name: [value] * count for name, value in GOOD.items()} | {"id": [str(n) for n in range(count)]}
    return pa.table(whole | columns)


def around(value: Any, good: Any = None) -> list[Any]:
    return [good, value, good]


def readable() -> Iterator[tuple[str, pa.Table, set[int]]]:
    """(name, table, rows that fail, from 1)."""
    yield "ok-plain", table(), set()
    for name, value in {"empty": "", "blank": "  ", "null": None, "long": "a" * 200_000}.items():
        yield f"ok-question-{name}", table(question=around(value, "What <image>?")), {2}
    pictures = {
        "text": "no base64",
        "null": None,
        "bomb": base64.b64encode(png(50_000, 50_000)).decode(),
        "nothing": "",
    }
    for name, value in pictures.items():
        yield f"ok-image-{name}", table(image=around(value, PICTURE)), {2}
    yield "ok-image-int", table(image=[1, 2]), {1, 2}
    yield "ok-image-binary", table(image=[saved(noise())] * 2), set()
    yield "ok-image-struct", table(image=[{"bytes": saved(noise()), "path": "/etc/passwd"}] * 2), set()
    yield "ok-image-path", table(image=["/etc/passwd.png", "../x.png", PICTURE]), {1, 2}
    yield "ok-image-struct-path", table(image=[{"bytes": None, "path": "../../x.png"}] * 2), {1, 2}
    yield "ok-image-removed", table(image=["<TLTS>", PICTURE]), set()
    yield "ok-image-lists", table(image=[[PICTURE], [PICTURE, None], [PICTURE]]), {2}
    yield "ok-image-many", table(image=[[PICTURE], [PICTURE] * 1000, [PICTURE]]), {2}
    yield "ok-image-nested", table(image=[[[PICTURE]]] * 2), {1, 2}
    yield "ok-steps-int", table(steps=[1, 2]), {1, 2}
    yield "ok-steps-text", table(steps=["xx", PICTURE]), {1}
    yield "ok-steps-broken", table(steps=[[PICTURE], [base64.b64encode(b"no picture").decode()], None]), {2}
    yield "ok-steps-null", table(steps=pa.nulls(2)), set()
    yield "ok-question-int", table(question=[1, 2]), {1, 2}
    yield "ok-answer-null", table(answer=around(None, "red")), {2}
    yield "ok-answer-nested", table(answer=[{"a": [1]}] * 2), set()
    yield "ok-answer-long", table(answer=["x" * 90_000, "x" * 10_000_000]), {2}
    yield "ok-task-overall", table(task=around("overall", "x")), {2}
    yield "ok-task-int", table(task=[1, 2]), {1, 2}
    yield "ok-task-dict", table(task=[{"a": 1}] * 2), {1, 2}
    yield "ok-id-dict", table(id=[{"a": 1}] * 2), {1, 2}
    yield "ok-id-long", table(id=around("x" * 100_000, None)), {2}
    yield "ok-ids-alike", table(id=["a", "a", "row 1", "row 2", "row 2", None]), set()
    yield "ok-ids-like-paths", table(id=["../../x", "/tmp/x", "\0", "a/b"]), set()
    yield "ok-other-columns", table(evil=[[[[[None]]]]], __index_level_0__=[1]), set()


def unreadable() -> Iterator[tuple[str, pa.Table]]:
    yield "bad-no-rows", table().slice(0, 0)
    yield "bad-no-answer", table().drop_columns(["answer"])
    yield "bad-no-columns", pa.table({})
    columns = [pa.array([value]) for value in (*GOOD.values(), "b")]
    yield "bad-columns-alike", pa.Table.from_arrays(columns, names=[*GOOD, "answer"])
    yield "bad-million-rows", pa.table({name: pa.nulls(1_000_000) for name in GOOD})
    moment = pa.array([2**62], pa.timestamp("us"))
    yield "bad-far-time", table(answer=moment)
    yield "bad-text-of-bytes", table(question=pa.array([b"\xff\xfe"]).view(pa.string()))


def bombs() -> Iterator[tuple[str, Callable[[Path], None]]]:
    def repeated(path: Path) -> None:
        cell = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["A" * 4_000_000]))
        columns = table(answer=["red"] * len(cell)).drop_columns(["image"])
        pq.write_table(columns.append_column("image", cell), path, compression="zstd")

    def one_value(path: Path) -> None:
        pq.write_table(table(image=["A" * 300_000_000]), path, compression="zstd")

    def one_list(path: Path) -> None:
        nothing = pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), pa.nulls(20_000_000, pa.string()))
        pq.write_table(table(image=nothing), path, compression="zstd")

    yield "bad-repeated", repeated
    yield "bad-one-value", one_value
    yield "any-one-list", one_list


def damaged(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "bad-empty", b""
    yield "bad-marks-alone", b"PAR1PAR1"
    yield "bad-text", b"question,image,answer\n" * 99
    yield "bad-picture", saved(noise())
    yield "bad-pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    for cut in (0.1, 0.5, 0.9, 0.999):
        yield f"bad-cut-at-{cut}", whole[: int(len(whole) * cut)]
    yield "bad-footer-length", whole[:-8] + b"\xff\xff\xff\x7fPAR1"
    yield "bad-footer-negative", whole[:-8] + b"\xff\xff\xff\xffPAR1"
    rng = random.Random(5)
    for number in range(24):
        content = bytearray(whole)
        for _ in range(1 + number % 3):
            content[rng.randrange(len(content) - (2000 if number % 2 else 1), len(content))] = rng.randrange(256)
        yield f"any-flipped-{number}", bytes(content)


def write(folder: Path) -> dict[str, list[int]]:
    """Write them all; the rows that must fail, by file name."""
    bad: dict[str, list[int]] = {}
    for name, content, rows in readable():
        pq.write_table(content, folder / f"{name}.parquet")
        bad[f"{name}.parquet"] = sorted(rows)
    for name, content in unreadable():
        pq.write_table(content, folder / f"{name}.parquet")
    for name, make in bombs():
        make(folder / f"{name}.parquet")
    told = table().replace_schema_metadata({"pandas": '{"index_columns": 5}', "evil": b"\x80\x04cos\nsystem\n."})
    pq.write_table(told, folder / "any-metadata.parquet")
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": "\x80\x04cos\nsystem\n."}
    pickled = pa.schema([pa.field(name, pa.string(), metadata=kind) for name in GOOD])
    pq.write_table(table().cast(pickled), folder / "any-pickled-type.parquet")
    for name, content in damaged((folder / "ok-plain.parquet").read_bytes()):
        (folder / f"{name}.parquet").write_bytes(content)
    return bad
