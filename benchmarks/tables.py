"""Tables of figures, printed and put into a page between two comments that carry the section's name."""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from omni_r1.files import write_atomic


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def kept(figures: Iterable[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """All figures, written as they come: of a run that is stopped those are left that it had."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for one in figures:
        rows.append(one)
        write_atomic(path, json.dumps(rows, indent=1) + "\n")
    return rows


def put_section(page: Path, name: str, content: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`. Raises ValueError where they are not there."""
    before = page.read_text(encoding="utf-8")
    marks = re.compile(f"(<!-- {re.escape(name)} -->\n).*(<!-- /{re.escape(name)} -->)", re.DOTALL)
    after, count = marks.subn(lambda found: found[1] + content + found[2], before)
    if count != 1:
        raise ValueError(f"{page} has no section {name}")
    page.write_text(after, encoding="utf-8")


def publish(
    told: str,
    section: str,
    rows_of: Callable[[Path], list[dict[str, Any]]],
    table: Callable[[list[dict[str, Any]]], str],
) -> None:
    """The command line of a script that makes rows of a folder of runs: prints their table, and writes both."""
    parser = argparse.ArgumentParser(description=told.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--json-path", type=Path)
    parser.add_argument("--page", type=Path, help=f"page whose section `{section}` becomes the table")
    args = parser.parse_args()
    rows = rows_of(args.work)
    if not rows:
        raise SystemExit(f"{args.work}: no runs")
    print(table(rows))
    if args.json_path:
        args.json_path.parent.mkdir(parents=True, exist_ok=True)
        args.json_path.write_text(json.dumps(rows, indent=1) + "\n")
    if args.page:
        put_section(args.page, section, table(rows))
