"""Questions with answers, JSONL, to the parquet that verl trains on: `python -m omni_r1.perpo.verl_plugins.rows`.

Pictures are encoded here, once, by the checkpoint's VQ; verl sees token ids only.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from omni_r1.data.sample import RowError, options_of
from omni_r1.errors import InputError, OmniError
from omni_r1.files import read_jsonl, write_atomic, writing
from omni_r1.generate.questions import Question, open_source, read_questions
from omni_r1.model import Omni, load
from omni_r1.option_parser import option, parse

SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {
                "index": pa.int64(),
                "id": pa.string(),
                "prompt_ids": pa.list_(pa.int64()),
                "options": pa.list_(pa.string()),
            }
        ),
    }
)
ROWS_AT_ONCE = 256


@dataclass
class RowsOptions:
    """Write the parquet that verl trains on."""

    input: str = option(help="JSONL of questions: prompt, images, answer, and where there are choices, options")
    model_path: str = option(help="checkpoint whose tokenizer and VQ encode the prompts")
    output_path: str = option(help="parquet file to write")
    template: Literal["plain", "templated"] = option("plain", help="form of the prompts, as in training before")
    data_source: str = option("omni-r1", help="name of the data set, which verl reports by")
    data_root: str | None = option(None, help="folder below which the pictures lie (default: the input's)")
    device: str = option("cpu", help="where pictures are encoded")


def write_rows(omni: Omni, options: RowsOptions) -> int:
    """Write the parquet, whole or not at all; the number of rows.

    Raises InputError naming file, row and field of the first row that cannot be used.
    """
    source = Path(options.input)
    questions = read_questions(source, Path(options.data_root) if options.data_root else source.parent)
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, SCHEMA) as writer:
        part: list[dict[str, Any]] = []
        for index, (question, (number, row)) in enumerate(zip(questions, read_jsonl(source), strict=True)):
            if question.error:
                raise question.error
            assert isinstance(row, dict)  # or the question has an error
            part.append(_row(omni, options, index, question, row, {"file": source, "row": number}))
            if len(part) == ROWS_AT_ONCE or index == len(questions) - 1:
                writer.write_table(pa.Table.from_pylist(part, SCHEMA))
                part = []
    target = Path(options.output_path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, buffer.getvalue().to_pybytes())
    return len(questions)


def _row(
    omni: Omni, options: RowsOptions, index: int, question: Question, row: dict[str, Any], where: dict[str, Any]
) -> dict[str, Any]:
    pictures = [open_source(image, where) for image in question.images]
    prompt = omni.prompt(question.text, pictures, options.template)
    try:
        choices = options_of(row, "options")
    except RowError as error:
        raise error.at(**where) from error
    return {
        "data_source": options.data_source,
        "prompt": [{"role": "user", "content": question.text}],
        "reward_model": {"style": "rule", "ground_truth": _answer(row, where)},
        "extra_info": {
            "index": index,
            "id": question.id,
            "prompt_ids": omni.vocabulary.render(prompt).ids,
            "options": list(choices) or None,
        },
    }


def _answer(row: dict[str, Any], where: dict[str, Any]) -> str:
    answer = row.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise InputError("must be a text that is not empty, or a number", field="answer", **where)
    return str(answer).strip()


def main(words: list[str]) -> int:
    try:
        options = parse(RowsOptions, words, "rows")
        count = write_rows(load(options.model_path, device=options.device, language_model=False), options)
    except OmniError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{count} rows: {options.output_path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
