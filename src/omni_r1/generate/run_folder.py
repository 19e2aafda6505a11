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

from omni_r1.errors import InputError, warn
from omni_r1.files import AppendLog, check_unused, remove_unfinished, write_atomic, writing
from omni_r1.generate.backend import Completion
from omni_r1.generate.questions import Question
from omni_r1.grammar import Grammar, images_whole
from omni_r1.model import Omni
from omni_r1.run_record import FIGURES, HOW, LATER, REPORT, RUN, SUMMARY, describe_run
from omni_r1.trajectory import Text

RESULT = "result.json"  # of one row, in the row's own folder


class RunFolder:
    """A run folder, fresh or gone on with. `log` is its file of records, `records` what is in it by key; `before`: the
    options of the run that goes on, None of a fresh one.

    `beside`: other files that belong to the log, and are removed with it where the run starts anew. Without `begin` the
    folder is only looked at: nothing is taken away, and nothing can be added, until `begin` is called.
    """

    def __init__(
        self,
        path: str | Path,
        options: Any,
        seed: int,
        *,
        log: str,
        resume: bool = False,
        beside: Sequence[str] = (),
        begin: bool = True,
    ) -> None:
        self.path, self.options, self.seed = Path(path), options, seed
        self.name, self.beside = log, beside
        self.before: dict[str, Any] | None = None
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        try:
            going_on = resume and (self.path / log).exists()
        except OSError as error:
            raise InputError(f"cannot be read: {error}", file=path, field="output_dir") from error
        if going_on:
            self.before = self._options_before()
            for name, value in dataclasses.asdict(options).items():
                if name in HOW | LATER:
                    continue
                if self.before.get(name, value) != value:  # an option may be newer than the run
                    raise self.refused(name)
            self.log = AppendLog(self.path / log)
            self.records = {key_of(record): record for record in self.log.rows}
        if begin:
            self.begin()

    def _options_before(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / RUN).read_text())["options"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot be gone on with: {error}", file=self.path / RUN, field="resume") from error

    def refused(self, name: str) -> InputError:
        """The error where the run to go on with was asked for something else."""
        before, value = (self.before or {}).get(name), getattr(self.options, name)
        reason = f"was {before!r} in the run that is to go on, not {value!r}; --no-resume starts anew"
        return InputError(reason, file=self.path / RUN, field=name)

    def begin(self) -> None:
        """Take away what an earlier run made of its answers, or all of it where this one is fresh."""
        if self.before is None:
            check_unused(self.path / self.name)
        elif pages := [name for name in (REPORT, FIGURES) if (self.path / name).exists()]:
            warn(f"{self.path}: {' and '.join(pages)} taken away, as the run goes on; omni-r1 report makes them anew")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (REPORT, FIGURES, SUMMARY, *((self.name, *self.beside) if self.before is None else ())):
                (self.path / name).unlink(missing_ok=True)
            remove_unfinished(self.path)
            write_atomic(self.path / RUN, json.dumps(describe_run(self.options, self.seed), indent=1) + "\n")
            if self.before is None:  # a log that is there belongs to the run.json beside it
                self.log = AppendLog(self.path / self.name)
        except OSError as error:
            raise InputError(f"cannot be written: {error}", file=self.path, field="output_dir") from error

    def sound(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The records that are no failed rows', by key."""
        return {key: record for key, record in self.records.items() if record["status"] != "error"}

    def forget_errors(self) -> None:
        """Drop failed rows from the log, so that they are tried again."""
        self._rewrite([*self.sound().values()])

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
        """Store an RGB picture; its path relative to the folder. `name` is made of numbers, never of a row's id."""
        content = io.BytesIO()
        image.save(content, "PNG")
        self.write(f"{name}.png", content.getvalue())
        return f"{name}.png"

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, in a folder of its own where its name says so."""
        file = self.path / name
        with writing(file):
            file.parent.mkdir(exist_ok=True)
        write_atomic(file, content)


def for_record(picture: Picture.Image, pixels: int) -> Picture.Image:
    """An RGB picture as a record shows it, of no more than so many pixels, without the file it holds on to."""
    if picture.width * picture.height <= pixels:
        return picture.copy()
    scale = (pixels / (picture.width * picture.height)) ** 0.5
    size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    return picture.resize(size, Picture.Resampling.BOX)


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
    strict: bool = True,
) -> tuple[dict[str, Any], list[Picture.Image]]:
    """The record of a completion, and the pictures drawn in it, which `store` keeps under their short names.

    Broken images (mode unrestricted) are named in the text or, not `strict`, cut or filled with code 0 and drawn.
    """
    response = completion.ids[completion.prompt_length :]
    said: list[str | tuple[int, ...]] = []
    broken: list[str] = []
    if completion.trajectory is not None:
        parts = completion.trajectory.response
        said = [part.text if isinstance(part, Text) else part.codes for part in parts]
    elif completion.error is None:  # ids that are no trajectory are shown all the same
        said = list(omni.vocabulary.pieces(response))
        broken = Grammar(omni.vocabulary).violations(completion.ids, completion.prompt_length)
    segments, drawn = _segments(said, omni, store, strict)
    marks = (
        f"<{Path(part['image']).stem.rpartition('-')[2]}>" if "image" in part else part["text"] for part in segments
    )
    text = "".join(marks)
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
        "broken": broken,
        "stop": completion.stop,
        "prompt_tokens": completion.prompt_length,
        "tokens": len(response),
        "logprob": round(sum(completion.logprobs), 4),
        "seed": seed,
        "control": None,
    }
    return record, drawn


def _segments(
    said: Sequence[str | tuple[int, ...]], omni: Omni, store: Callable[[Picture.Image, str], str], strict: bool
) -> tuple[list[dict[str, Any]], list[Picture.Image]]:
    """What was said, in order: texts, and images as the paths of their pictures; and the pictures."""
    length = omni.vocabulary.image_length
    images = [part for part in said if not isinstance(part, str)]
    fit = [(*codes, *[0] * length)[:length] for codes in images if len(codes) == length or not strict]
    drawn = omni.decode(omni.vocabulary.codes_to_tokens(torch.tensor(fit))) if fit else []
    left, number = iter(drawn), 0
    segments: list[dict[str, Any]] = []
    for part in said:
        if isinstance(part, str):
            segments.append({"text": part})
            continue
        number += 1
        if strict and len(part) != length:
            segments.append({"text": f"<invalid_image_{number}>"})
        else:
            segments.append({"image": store(next(left), f"image_{number}"), "step": None})
    return segments, drawn
