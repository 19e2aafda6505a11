"""Chains of thought in text alone, as files for `omni-r1 bootstrap`."""

import json
from pathlib import Path

from corpora import picture, write_lines


def chains(folder: Path, count: int, pictures: int = 3) -> Path:
    """Rows of one to three steps, without an answer in every seventh; `pictures` different pictures in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        (folder / f"{number}.png").write_bytes(picture(number))
    rows = [
        {
            "id": f"row {number}",
            "prompt": f"What is at {number}? <image>",
            "images": [f"{number % pictures}.png"],
            "rationale": "\n".join(f"THOUGHT {k}: I look at {k} of {number}." for k in range(1, number % 3 + 2)),
            "answer": str(number) if number % 7 else "",
        }
        for number in range(count)
    ]
    return write_lines(folder / "rows.jsonl", rows)


def drawings(folder: Path) -> list[dict]:
    """All that is told of drawings in a bootstrapped folder."""
    return [json.loads(line) for file in sorted(folder.glob("drawings/*.jsonl")) for line in file.open()]
