"""Suites by name: `load_suite` reads one; each has a file of its own here."""

from collections.abc import Callable

from omni_r1.bench.suites import (
    arxivqa,
    chartqa,
    geometry3k,
    mathvista,
    miniature,
    omni_bench,
    vic_bench,
    vstar,
)
from omni_r1.bench.suites.files import Files, find
from omni_r1.bench.suites.suite import Item, Suite, swap_pictures
from omni_r1.errors import InputError
from omni_r1.options import SHIPPED

__all__ = ["SUITES", "Files", "Item", "Suite", "load_suite", "swap_pictures"]

Reader = Callable[[Files], list[Item]]
# Name -> its reader, its data set of the hub, the split that is asked, and the pictures beside its rows.
SUITES: dict[str, tuple[Reader, str, str | None, tuple[str, ...]]] = {
    "omni-bench": (omni_bench.questions, omni_bench.HUB, omni_bench.SPLIT, ()),
    "vstar": (vstar.questions, vstar.HUB, vstar.SPLIT, vstar.PICTURES),
    "arxivqa": (arxivqa.questions, arxivqa.HUB, arxivqa.SPLIT, arxivqa.PICTURES),
    "chartqa": (chartqa.questions, chartqa.HUB, chartqa.SPLIT, ()),
    "geometry3k": (geometry3k.questions, geometry3k.HUB, geometry3k.SPLIT, ()),
    "mathvista": (mathvista.questions, mathvista.HUB, mathvista.SPLIT, ()),
    "vic-bench": (vic_bench.questions, vic_bench.HUB, vic_bench.SPLIT, vic_bench.PICTURES),
}


def load_suite(
    data: str | None = None,
    name: str | None = None,
    revision: str | None = None,
    split: str | None = None,
    source_column: str | None = None,
) -> Suite:
    """The suite `name` from its `data`: a path, a hub id, or None for its own of the hub; both None: the miniature.

    Raises InputError naming the option or the file at fault.
    """
    if SHIPPED in (name, data) or (name, data) == (None, None):
        if name not in (None, SHIPPED) or data not in (None, SHIPPED):
            raise InputError(f"{SHIPPED} is a suite with its own data", field="suite")
        if (revision, split, source_column) != (None, None, None):
            raise InputError(f"has no effect on {SHIPPED}", field="revision" if revision else "split")
        return Suite(SHIPPED, miniature.questions(), miniature.judge, miniature.FILES.origin)
    name = name or "omni-bench"
    reader, hub, usual, pictures = SUITES[name]
    files = find(data or hub, revision, split or usual, pictures)
    if name == "omni-bench":
        items = omni_bench.questions(files, source_column)
    elif source_column is not None:
        raise InputError(f"is read for omni-bench; {name} is a source itself", field="source_column")
    else:
        items = reader(files)
    return Suite(name if data is None else _called(name, data), items, origin=files.origin)


def _called(name: str, data: str) -> str:
    """What a run calls its suite: its name, for Omni-Bench's schema that of the file, which may be anybody's."""
    return data.rstrip("/").rpartition("/")[2].removesuffix(".parquet") if name == "omni-bench" else name
