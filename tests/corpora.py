"""Data sets written to their published schemas, with the quirks that they have."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
GAMES, SEARCH = "Visual Logic & Strategic Games - Chess", "2D Visual Reasoning - Visual Search"


def picture(seed: int, form: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture file of some shapes; another seed, another picture."""
    rng = random.Random(seed)
    image = Image.new("RGBA", size, tuple(rng.randrange(256) for _ in range(3)) + (0 if mode == "RGBA" else 255,))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        draw.rectangle((x, y, x + 12, y + 9), fill=tuple(rng.randrange(256) for _ in range(3)) + (255,))
    content = io.BytesIO()
    image.convert(mode).save(content, form, **({"lossless": True} if form == "WEBP" else {}))
    return content.getvalue()


def cell(data: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": data, "path": path}


def named(key: str) -> str:
    return f"<image_start>[{key}]<image_end>"


def write_parquet(file: Path, rows: list[dict[str, Any]], types: dict[str, pa.DataType] | None = None) -> Path:
    """Rows with all columns that one of them has; pictures are structs of bytes and path, as the hub stores them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    types = types or {}
    fields = [(name, types.get(name, CELL if "_image_" in name else pa.string())) for name in names]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), file, row_group_size=3)
    return file


def zebra_row(question: str, trace: str | None, answer: str | None, **cells: Any) -> dict[str, Any]:
    return {"Question": question, "Text Reasoning Trace": trace, "Final Answer": answer, **cells}


def zebra(folder: Path) -> dict[str, str]:
    """Ten rows of two configs with unequal columns, all quirks among them; what is to become of each, by its id."""
    p1, r1, r2 = (named(key) for key in ("problem_image_1", "reasoning_image_1", "reasoning_image_2"))
    games = [
        # Columns in no order, a trace that begins at 3, alpha; `_10` comes after `_2`.
        zebra_row(
            f"Which move? {p1}",
            f"THOUGHT 3: look. {r2} THOUGHT N: move. {named('reasoning_image_10')}",
            "Qh5",
            reasoning_image_10=cell(picture(3, "WEBP")),
            reasoning_image_2=cell(picture(2, "JPEG")),
            problem_image_2=None,
            problem_image_1=cell(picture(1, "PNG", "RGBA"), "board.png"),
        ),
        zebra_row("2 + 2?", f"THOUGHT 0: count. {r2}", "4", reasoning_image_2=cell(picture(4))),  # no problem picture
        zebra_row(f"Where? {p1}", f"THOUGHT 0: {r2} then {named('reasoning_image_10')}", "e4")
        | {
            "problem_image_1": cell(picture(1)),
            "reasoning_image_2": cell(picture(2)),
            "reasoning_image_10": cell(None),
        },
        zebra_row("Who wins?", f"THOUGHT 0: no picture is named {r2}", "white")
        | {"reasoning_image_2": cell(picture(5)), "reasoning_image_10": cell(picture(6))},
        zebra_row(f"What? {p1}", f"THOUGHT 1: {named('diagram')}", "x", problem_image_1=cell(picture(1))),
    ]
    search = [
        # Problem pictures that the question does not name stand in front of it; the trace shows one again.
        zebra_row("Find the key.", f"THOUGHT 1: zoom. {r1} Again {p1}", "left")
        | {
            "problem_image_1": cell(picture(7)),
            "problem_image_2": cell(picture(8)),
            "reasoning_image_1": cell(picture(9)),
        },
        zebra_row(f"Find {p1}", None, "left", problem_image_1=cell(picture(7))),
        zebra_row(f"Find {p1}", f"THOUGHT 1: {r1}", "  ")
        | {"problem_image_1": cell(picture(7)), "reasoning_image_1": cell(picture(9))},
        zebra_row(f"Find {p1}", f"THOUGHT 1: {r1}", "right")
        | {"problem_image_1": cell(picture(7)[:90]), "reasoning_image_1": cell(picture(9))},
        zebra_row("Find", f"THOUGHT 1: {r1} <image_start>[reasoning_image_1]", "right")
        | {"reasoning_image_1": cell(picture(9))},
    ]
    write_parquet(folder / GAMES / "train-00000-of-00002.parquet", games[:3])
    write_parquet(folder / GAMES / "train-00001-of-00002.parquet", games[3:])
    write_parquet(folder / SEARCH / "train-00000-of-00001.parquet", search)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A card\n")
    return {
        f"{GAMES}:1": "written",
        f"{GAMES}:2": "written",
        f"{GAMES}:3": "missing-image",
        f"{GAMES}:4": "unreferenced-image",
        f"{GAMES}:5": "unknown-placeholder",
        f"{SEARCH}:1": "written",
        f"{SEARCH}:2": "no-rationale",
        f"{SEARCH}:3": "empty-answer",
        f"{SEARCH}:4": "broken-image",
        f"{SEARCH}:5": "malformed-placeholder",
    }


def m3cot_row(**changed: Any) -> dict[str, Any]:
    row = {
        "id": "physical-commonsense-1",
        "category": "physical-commonsense",
        "image_id": "1",
        "question": "What melts?",
        "choices": ["stone", "ice"],
        "context": "A warm day.",
        "answer": "B",
        "rationale": "It is warm.\n(B) ice is correct answer",
        "split": "train",
        "image": cell(picture(20, "JPEG"), "1.jpg"),
        "domain": "commonsense",
        "topic": "physical-commonsense",
    }
    return row | changed


def write_m3cot(file: Path, rows: list[dict[str, Any]]) -> Path:
    return write_parquet(file, rows, {"image": CELL, "choices": pa.list_(pa.string())})


def write_lines(file: Path, rows: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def own_rows(folder: Path, count: int, pictures: int = 3) -> Path:
    """Rows of this project's own format with `pictures` different pictures in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        (folder / f"{number}.png").write_bytes(picture(number))
    rows = [
        {
            "id": f"row {number}",
            "prompt": f"What is at {number}? <image>",
            "images": [f"{number % pictures}.png"],
            "rationale": "It is <image> here." if number % 3 else "Plain to see.",
            "rationale_images": [f"{(number + 1) % pictures}.png"] if number % 3 else [],
            "answer": str(number) if number % 7 else "",
        }
        for number in range(count)
    ]
    return write_lines(folder / "rows.jsonl", rows)
