"""A last look through what bootstrapping has written, from the files themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from omni_r1.data.shards import SHARDS
from omni_r1.errors import InputError
from omni_r1.files import read_jsonl
from omni_r1.grammar import Grammar
from omni_r1.model import Omni
from omni_r1.perpo.reward import grade
from omni_r1.trajectory import extract_answer
from omni_r1.vocabulary import ParseError, Vocabulary


@dataclass(frozen=True)
class Checked:
    """How many rows were looked at, and what is wrong with those that are not as they should be, by id."""

    rows: int
    faults: dict[str, str]


def validate(folder: Path, beside: str, omni: Omni) -> Checked:
    """Every row of the shards in `folder`: it parses and ends, its response is legal under the grammar, it has as many
    drawings as steps and they become pictures, and its answer is graded right against the gold one of the source."""
    gold = {line["id"]: line for line in told(folder / beside)}
    rows, faults = 0, dict[str, str]()
    for file in sorted((folder / SHARDS).glob("*.parquet")):
        for row in pq.read_table(file, columns=["id", "input_ids", "loss_mask"]).to_pylist():
            rows += 1
            fault = _fault(row, gold.get(row["id"]), omni)
            if fault is not None:
                faults[row["id"]] = fault
    return Checked(rows, faults)


def told(folder: Path) -> Iterator[dict[str, Any]]:
    """What is told of each drawing, taken or not, in the order of the rows. Raises InputError for a damaged line."""
    for file in sorted(folder.glob("*.jsonl")):
        for _, line in read_jsonl(file):
            if isinstance(line, InputError):
                raise line
            yield line


def _fault(row: dict[str, Any], last: dict[str, Any] | None, omni: Omni) -> str | None:
    """`last`: what is told of a drawing of the row's last step."""
    if last is None:
        return "nothing is told of its drawings"
    ids, length = row["input_ids"], row["loss_mask"].index(True)
    vocabulary: Vocabulary = omni.vocabulary
    try:
        trajectory = vocabulary.parse(ids, length)
    except ParseError as error:
        return str(error)
    wrong = Grammar(vocabulary).violations(ids, length)
    drawn = trajectory.response_images
    if wrong or not trajectory.ended:
        return wrong[0] if wrong else "it does not end"
    if len(drawn) != last["step"]:
        return f"{len(drawn)} drawings for {last['step']} steps"
    omni.decode(vocabulary.codes_to_tokens(torch.tensor([image.codes for image in trajectory.images])))
    verdict = grade(extract_answer(trajectory.response_text) or "", last["answer"])
    return None if verdict.correct else f"its answer is wrong: {verdict.reason}"
