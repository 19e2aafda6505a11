"""A last look through what bootstrapping has written, from the files themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from omni_r1.data.shards import SHARDS
from omni_r1.files import whole_rows
from omni_r1.grammar import Grammar
from omni_r1.model import Omni
from omni_r1.perpo.reward import grade
from omni_r1.run_record import DRAWINGS
from omni_r1.trajectory import extract_answer
from omni_r1.vocabulary import ParseError, Vocabulary


@dataclass(frozen=True)
class Checked:
    """How many rows were looked at, and what is wrong with those that are not as they should be, by id."""

    rows: int
    faults: dict[str, str]


def validate(folder: Path, omni: Omni) -> Checked:
    """Every row of the shards in `folder`: it parses and ends, its response is legal under the grammar, its drawings
    are those that were taken and become pictures, and its answer is graded right against the source's gold one."""
    taken: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((folder / DRAWINGS).glob("*.jsonl")):
        for line in whole_rows(file):
            if line["taken"]:
                taken.setdefault(line["id"], []).append(line)
    rows, faults = 0, dict[str, str]()
    for file in sorted((folder / SHARDS).glob("*.parquet")):
        for row in pq.read_table(file, columns=["id", "input_ids", "loss_mask"]).to_pylist():
            rows += 1
            fault = _fault(row, taken.get(row["id"]), omni)
            if fault is not None:
                faults[row["id"]] = fault
    return Checked(rows, faults)


def _fault(row: dict[str, Any], taken: list[dict[str, Any]] | None, omni: Omni) -> str | None:
    """`taken`: what is told of the drawings that were taken, in the order of the steps."""
    if taken is None:
        return "nothing is told of its drawings"
    ids, length = row["input_ids"], row["loss_mask"].index(True)
    vocabulary: Vocabulary = omni.vocabulary
    try:
        trajectory = vocabulary.parse(ids, length)
    except ParseError as error:
        return str(error)
    wrong = Grammar(vocabulary).violations(ids, length)
    drawn = [list(image.codes) for image in trajectory.response_images]
    if wrong or not trajectory.ended:
        return wrong[0] if wrong else "it does not end"
    if drawn != [line["codes"] for line in taken]:
        return f"its {len(drawn)} drawings are not the {len(taken)} that were taken"
    omni.decode(vocabulary.codes_to_tokens(torch.tensor([image.codes for image in trajectory.images])))
    verdict = grade(extract_answer(trajectory.response_text) or "", taken[0]["answer"])
    return None if verdict.correct else f"its answer is wrong: {verdict.reason}"
