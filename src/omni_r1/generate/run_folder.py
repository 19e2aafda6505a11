"""The folder a run writes: what was asked, a record a row, its pictures. Made to be killed at any moment.

A row's pictures and `result.json` are written first, its line in the log last, each on disk before the next begins:
a row is in the log if and only if all of it is there. A run that goes on skips the rows of the log and does the others
again. `finish` puts the log into the order of the input, so that an interrupted run leaves the same bytes as another.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture

from omni_r1.errors import InputError
from omni_r1.files import AppendLog, remove_unfinished, write_atomic, writing
from omni_r1.generate.backend import Completion
from omni_r1.generate.questions import Question
from omni_r1.grammar import images_whole
from omni_r1.model import Omni
from omni_r1.model.vq import opaque
from omni_r1.run_record import REPORT, RUN, SUMMARY, describe_run
from omni_r1.trajectory import Text

RESULT = "result.json"  # of one row, in the row's own folder
# What may change between a run and its continuation: it decides how, not what, is answered.
HOW = {"batch_size", "device", "resume", "retry_errors", "verbose", "input", "output_dir", "priority_terms"}


class RunFolder:
    """A run folder, fresh or gone on with. `log` is its file of records, `records` what is in it by key."""

    def __init__(self, path: str | Path, options: Any, seed: int, *, log: str, resume: bool = False) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            going_on = resume and (self.path / log).exists()
            if going_on:  # before anything is taken away: a run that cannot go on stays as it is
                self._same(options)
                self.log = AppendLog(self.path / log)
            for name in (REPORT, SUMMARY) if going_on else (REPORT, SUMMARY, log):
                (self.path / name).unlink(missing_ok=True)
            remove_unfinished(self.path)
            write_atomic(self.path / RUN, json.dumps(describe_run(options, seed), indent=1) + "\n")
            if not going_on:  # a log that is there belongs to the run.json beside it
                self.log = AppendLog(self.path / log)
        except OSError as error:
            raise InputError(f"cannot be written: {error}", file=path, field="output_dir") from error
        self.records = {key_of(record): record for record in self.log.rows}

    def _same(self, options: Any) -> None:
        """Raise InputError where the run to go on with was asked for something else."""
        try:
            before = json.loads((self.path / RUN).read_text())["options"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot be gone on with: {error}", file=self.path / RUN, field="resume") from error
        for name, value in dataclasses.asdict(options).items():
            if name not in HOW and before.get(name) != value:
                raise InputError(
                    f"was {before.get(name)!r} in the run that is to go on, not {value!r}; --no-resume starts anew",
                    file=self.path / RUN,
                    field=name,
                )

    def forget_errors(self) -> None:
        """Drop failed rows from the log, so that they are tried again."""
        self._rewrite([record for record in self.log.rows if record["status"] != "error"])

    def add(self, record: dict[str, Any]) -> None:
        self.log.append(record)
        self.records[key_of(record)] = record

    def finish(self, order: Sequence[tuple[str, int]], figures: dict[str, Any]) -> list[dict[str, Any]]:
        """Put the log into `order` and write the run's figures. Returns the records in that order."""
        records = [self.records[key] for key in order]
        self._rewrite(records)
        write_atomic(self.path / SUMMARY, json.dumps(figures, indent=1) + "\n")
        return records

    def _rewrite(self, records: Sequence[dict[str, Any]]) -> None:
        self.log.rewrite(records)
        self.records = {key_of(record): record for record in records}

    def picture(self, image: Picture.Image, name: str) -> str:
        """Store a picture; its path relative to the folder. `name` is made of numbers, never of a row's id."""
        content = io.BytesIO()
        opaque(image).save(content, "PNG")
        self.write(f"{name}.png", content.getvalue())
        return f"{name}.png"

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, in a folder of its own where its name says so."""
        file = self.path / name
        with writing(file):
            file.parent.mkdir(exist_ok=True)
        write_atomic(file, content)


def key_of(record: dict[str, Any]) -> tuple[str, int]:
    """What a record answers: the row's id, and which of its samples it is."""
    return record["id"], record["sample"]


def record_of(
    question: Question,
    sample: int,
    completion: Completion,
    pictures: Sequence[Picture.Image],
    omni: Omni,
    store: Callable[[Picture.Image, str], str],
    seed: int | None,
) -> tuple[dict[str, Any], list[Picture.Image]]:
    """The record of a completion, and the pictures drawn in it, which `store` keeps under their short names."""
    response = completion.ids[completion.prompt_length :]
    drawn: list[Picture.Image] = []
    segments: list[dict[str, Any]] = []
    text = ""
    if completion.trajectory is not None:
        text = completion.trajectory.response_text
        codes = [image.codes for image in completion.trajectory.response_images]
        if codes:
            drawn = omni.decode(omni.vocabulary.codes_to_tokens(torch.tensor(codes)))
        numbered = iter(enumerate(drawn, 1))
        for segment in completion.trajectory.response:
            if isinstance(segment, Text):
                segments.append({"text": segment.text})
            else:
                number, picture = next(numbered)
                segments.append({"image": store(picture, f"image_{number}"), "step": None})
    elif completion.error is None:  # mode unrestricted: ids that are no trajectory are still shown, as text
        text = omni.vocabulary.decode_text(response)
        segments = [{"text": text}]
    whole = images_whole(completion.ids, completion.prompt_length, omni.vocabulary)
    record = {
        "id": question.id,
        "row": question.row,
        "sample": sample,
        "status": "error" if completion.error else "ok",
        "error": completion.error,
        "task": question.task,
        "question": question.text,
        "question_images": [store(picture, f"question_{number}") for number, picture in enumerate(pictures, 1)],
        "text": text,
        "images": [segment["image"] for segment in segments if "image" in segment],
        "segments": segments,
        "answer": completion.answer,
        "gold": question.gold,
        "gold_images": [],
        "correct": None,
        "reason": "",
        "judged": False,
        "valid": all(whole) if whole else None,
        "images_whole": whole,
        "stop": completion.stop,
        "prompt_tokens": completion.prompt_length,
        "tokens": len(response),
        "logprob": round(sum(completion.logprobs), 4),
        "seed": seed,
        "control": None,
    }
    return record, drawn
