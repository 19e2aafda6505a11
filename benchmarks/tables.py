"""Tables of figures, printed and put into a page between two comments that carry the section's name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def put_section(page: Path, name: str, content: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`. Raises ValueError where they are not there."""
    before = page.read_text(encoding="utf-8")
    marks = re.compile(f"(<!-- {re.escape(name)} -->\n).*(<!-- /{re.escape(name)} -->)", re.DOTALL)
    after, count = marks.subn(lambda found: found[1] + content + found[2], before)
    if count != 1:
        raise ValueError(f"{page} has no section {name}")
    page.write_text(after, encoding="utf-8")
