"""The six data sets that Omni-Bench draws on: their names, Uni-Tasks, and the rules their answers are graded by."""

import re
from typing import Any, NamedTuple

NATURAL, STRUCTURED, DIAGRAMMATIC, OPERATIONAL = "natural", "structured", "diagrammatic", "vision-operational"


class Origin(NamedTuple):
    """A data set: its Uni-Task (the paper's Table 1), and the profile of its answers."""

    task: str
    profile: str


SOURCES = {
    "vstar": Origin(NATURAL, "choice"),
    "arxivqa": Origin(STRUCTURED, "choice"),
    "chartqa": Origin(STRUCTURED, "relaxed"),
    "geometry3k": Origin(DIAGRAMMATIC, "number"),
    "mathvista": Origin(DIAGRAMMATIC, "mathvista"),
    "vicbench": Origin(OPERATIONAL, "sequence"),
}
ALIASES = {"v": "vstar", "vic": "vicbench"}  # names that are whole; others are told by how they begin
BEGINS = {**{source: source for source in SOURCES}, "geo3k": "geometry3k"}
COLUMNS = ("source", "data_source", "dataset", "benchmark", "category")  # where a row may name its source
IDS = ("id", "index", "question_id", "pid")


def known_source(name: str) -> str | None:
    """The source that a name means: case and punctuation do not count, and what follows it does not either."""
    key = re.sub(r"[^a-z0-9]", "", name.lower().replace("v*", "vstar"))
    if key in ALIASES:
        return ALIASES[key]
    return next((source for begin, source in BEGINS.items() if key.startswith(begin)), None)


def source_of(row: dict[str, Any], column: str | None = None) -> str | None:
    """A row's source by the column told, else by those of COLUMNS or the begin of its id; None where none tells."""
    fields = (column,) if column is not None else (*COLUMNS, *IDS)
    named = (known_source(row[field]) for field in fields if isinstance(row.get(field), str))
    return next((source for source in named if source is not None), None)
