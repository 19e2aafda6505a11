"""The paper's tables with intervals: `python benchmarks/published.py [--page docs/omni-bench.md]`.

Averages recomputed from the printed scores, and of each pair of which the paper says that the first is better, whether
the difference is more than noise.
"""

import argparse
from pathlib import Path
from typing import Any

from tables import markdown, put_section

from omni_r1.bench.intervals import Difference
from omni_r1.bench.published import (
    ABLATION,
    BENCH,
    COUNTS,
    GENERAL,
    GENERAL_ROWS,
    SHARES,
    TITLES,
    Published,
    claims,
    differences,
)
from omni_r1.bench.statistics import OVERALL

HEADS = {OVERALL: "all", **TITLES}


def points(difference: Difference) -> str:
    low, high = difference.interval
    text = f"{100 * difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if difference.excludes_zero else text


def averages(rows: tuple[Published, ...]) -> list[dict[str, Any]]:
    listed = []
    for row in rows:
        recomputed = f"{row.recomputed():.{row.digits}f}"
        same = recomputed == f"{row.average:.{row.digits}f}"
        listed.append(
            {
                "table": row.table,
                "model": row.model,
                "printed": f"{row.average:.{row.digits}f}",
                "recomputed": recomputed if same else f"{recomputed} (differs)",
            }
        )
    return listed


def with_intervals(rows: tuple[Published, ...]) -> list[dict[str, Any]]:
    """Tables 2 and 4: each accuracy with its interval, as a run's are."""
    listed = []
    for row in rows:
        found = row.figures()
        cells: dict[str, Any] = {"published": row.model}
        for name in COUNTS:
            low, high = found["interval"][name]
            whole = "" if name == OVERALL or row.right(name) is not None else " †"
            share = 100 * found["accuracy"][name]
            cells[f"{HEADS[name]} ({COUNTS[name]})"] = f"{share:.1f} [{100 * low:.1f}, {100 * high:.1f}]{whole}"
        listed.append(cells)
    return listed


def compared(tables: tuple[int, ...]) -> list[dict[str, Any]]:
    listed = []
    for one, other in claims():
        if one.table not in tables:
            continue
        found = differences(one, other)
        cells: dict[str, Any] = {"claimed better": one.model, "than": other.model}
        cells |= {HEADS.get(name, f"{name} ({GENERAL.get(name)})"): points(found[name]) for name in found}
        if OVERALL in found:
            cells["questions needed"] = f"{found[OVERALL].questions_needed:,}"
        listed.append(cells)
    return listed


def verdict(tables: tuple[int, ...], columns: tuple[str, ...]) -> str:
    found = [differences(*pair)[name] for pair in claims() if pair[0].table in tables for name in columns]
    shown = sum(difference.excludes_zero and difference.value > 0 for difference in found)
    return f"{shown} of {len(found)} such differences are more than noise, {len(found) - shown} are not.\n\n"


def page() -> str:
    slices = tuple(TITLES)
    return "\n".join(
        [
            "Averages, as printed and from the row's own scores:\n",
            markdown(averages((*BENCH, *ABLATION, *GENERAL_ROWS))),
            "Accuracy in percent with Wilson's interval for one sample a question (Tables 2 and 4):\n",
            markdown(with_intervals((*BENCH, *ABLATION[1:]))),
            "Difference in points, by Newcombe's interval; bold where it excludes zero (Tables 2 and 4). Averages: "
            + verdict((2, 4), (OVERALL,))
            + "By Uni-Task: "
            + verdict((2, 4), slices)
            + markdown(compared((2, 4))),
            "The same for those benchmarks of Table 3 whose score is a share of questions. "
            + verdict((3,), SHARES)
            + markdown(compared((3,))),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, help="page whose section `published` becomes the tables")
    args = parser.parse_args()
    print(page())
    if args.page:
        put_section(args.page, "published", page())


if __name__ == "__main__":
    main()
