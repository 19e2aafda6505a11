"""`omni-r1 generate`: questions in (JSONL), trajectories out. The bench answers its questions the same way.

A run folder holds run.json (options, seed, versions, commit), results.jsonl (a record a question), summary.json and
images/. A question that cannot be answered is a record with status `error`; the others go on.
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture

from omni_r1.errors import InputError, OmniError
from omni_r1.files import AppendLog, open_image, read_jsonl, write_atomic
from omni_r1.generate.backend import Completion, SamplingOptions
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.grammar import images_whole
from omni_r1.model import Omni, load
from omni_r1.model.vq import opaque
from omni_r1.options import GenerateOptions
from omni_r1.run_record import describe_run, progress
from omni_r1.trajectory import Text, Trajectory, extract_answer

RESULTS, RUN, SUMMARY, IMAGES, REPORT = "results.jsonl", "run.json", "summary.json", "images", "report.html"
PICTURE_NAME = re.compile(r"\d+-(question|drawn|gold)-\d+")


@dataclass
class Question:
    """A question (`<image>` marks in its text), its pictures, and what is known of its answer.

    `where`: the `file` and `row` it came from. With `error` set the question could not be read and is only carried
    through to its record.
    """

    id: str
    text: str = ""
    images: list[Picture.Image] = field(default_factory=list)
    task: str | None = None
    gold: str | None = None
    gold_images: list[Picture.Image] = field(default_factory=list)
    error: OmniError | None = None
    where: dict[str, Any] = field(default_factory=dict)


@dataclass
class Answer:
    """The record of a question as results.jsonl holds it, and the pictures drawn for it."""

    record: dict[str, Any]
    drawn: list[Picture.Image]


class RunFolder:
    """A fresh run folder: an earlier run's files in it are replaced, others left alone."""

    def __init__(self, path: str | Path, options: Any, seed: int) -> None:
        self.path = Path(path)
        try:
            (self.path / IMAGES).mkdir(parents=True, exist_ok=True)
            for name in (RESULTS, SUMMARY, REPORT):
                (self.path / name).unlink(missing_ok=True)
            for old in (self.path / IMAGES).glob("*.png"):
                if PICTURE_NAME.fullmatch(old.stem):
                    old.unlink()
            write_atomic(self.path / RUN, json.dumps(describe_run(options, seed), indent=1) + "\n")
            self.results = AppendLog(self.path / RESULTS)
        except OSError as error:
            raise InputError(f"cannot be written: {error}", file=path, field="output_dir") from error

    def picture(self, image: Picture.Image, name: str) -> str:
        """Store a picture; its path relative to the folder. `name` is made of numbers, never of a row's id."""
        relative = f"{IMAGES}/{name}.png"
        opaque(image).save(self.path / relative)
        return relative


def complete(
    omni: Omni, questions: Sequence[Question], options: SamplingOptions, *, template: str, batch_size: int, label: str
) -> Iterator[tuple[int, Question, Completion]]:
    """Number, question and completion of each question, in order, a batch at a time, under a progress bar."""
    backend = TransformersBackend(omni, batch_size)
    with progress(len(questions), "question", label) as bar:
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            prompts: dict[int, Trajectory] = {}
            for number, question in enumerate(batch):
                try:
                    if question.error is None:
                        prompts[number] = omni.prompt(question.text, question.images, template)
                except OmniError as error:
                    question.error = InputError(str(error), **question.where)
            done = 0

            def report(rows: int, tokens: int, bar=bar) -> None:
                nonlocal done
                bar.update(rows - done)
                done = rows
                bar.set_postfix_str(f"{tokens} tokens", refresh=False)

            seeds = [options.seed + start + number for number in prompts]
            completions = backend.generate(list(prompts.values()), options, seeds=seeds, progress=report)
            by_number = dict(zip(prompts, completions, strict=True))
            bar.update(len(batch) - len(prompts))
            for number, question in enumerate(batch):
                completion = by_number.get(number, Completion([], 0, error=str(question.error)))
                if number in by_number and completion.error:
                    completion.error = str(InputError(completion.error, **question.where))
                yield start + number, question, completion


def record_of(
    number: int, question: Question, completion: Completion, omni: Omni, folder: RunFolder, seed: int
) -> Answer:
    """The record of a completion. Its drawn pictures are decoded and stored in the folder."""
    response = completion.ids[completion.prompt_length :]
    drawn: list[Picture.Image] = []
    segments: list[dict[str, Any]] = []
    if completion.trajectory is not None:
        codes = [image.codes for image in completion.trajectory.response_images]
        if codes:
            drawn = omni.decode(omni.vocabulary.codes_to_tokens(torch.tensor(codes)))
        pictures = iter(enumerate(drawn))
        for segment in completion.trajectory.response:
            if isinstance(segment, Text):
                segments.append({"text": segment.text})
            else:
                k, picture = next(pictures)
                segments.append({"image": folder.picture(picture, f"{number}-drawn-{k}"), "step": None})
    elif completion.error is None:  # mode unrestricted: ids that are no trajectory are still shown, as text
        segments = [{"text": omni.vocabulary.decode_text(response)}]
    whole = images_whole(completion.ids, completion.prompt_length, omni.vocabulary)
    record = {
        "id": question.id,
        "status": "error" if completion.error else "ok",
        "error": completion.error,
        "task": question.task,
        "question": question.text,
        "question_images": [folder.picture(image, f"{number}-question-{k}") for k, image in enumerate(question.images)],
        "segments": segments,
        "answer": extract_answer(completion.trajectory.response_text) if completion.trajectory else None,
        "gold": question.gold,
        "gold_images": [folder.picture(image, f"{number}-gold-{k}") for k, image in enumerate(question.gold_images)],
        "correct": None,
        "reason": "",
        "judged": False,
        "valid": all(whole) if whole else None,
        "images_whole": whole,
        "stop": completion.stop,
        "tokens": len(response),
        "logprob": sum(completion.logprobs),
        "seed": seed,
        "control": None,
    }
    return Answer(record, drawn)


def tell_failures(records: Sequence[dict[str, Any]]) -> int:
    """One line on stderr for each failed record; the exit code of the run."""
    failed = [record for record in records if record["status"] == "error"]
    for record in failed:
        print(f"omni-r1: error: {' '.join(record['error'].split())}", file=sys.stderr)
    return 2 if failed else 0


def read_questions(path: Path, root: Path) -> list[Question]:
    """Questions of a JSONL file: `prompt`, `images` (paths under `root`), and `id` (default: the row's number).

    A row that cannot be used becomes a Question with `error`, naming file, row and field.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        name = f"row {number}"
        try:
            if isinstance(row, InputError):
                raise row
            name = name if row.get("id") is None else str(row["id"])
            if name in seen:
                raise InputError(f"{name!r} is the id of row {seen[name]} already", file=path, row=number, field="id")
            seen[name] = number
            questions.append(Question(name, *_question(row, root), where={"file": path, "row": number}))
        except InputError as error:
            located = InputError(
                error.message if error.file in (None, path) else f"{error.file}: {error.message}",
                file=path, row=number, field=error.field,
            )  # fmt: skip
            questions.append(Question(name, error=located))
    if not questions:
        raise InputError("no rows", file=path)
    return questions


def _question(row: dict[str, Any], root: Path) -> tuple[str, list[Picture.Image]]:
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise InputError("must be a text", field="prompt")
    paths = row.get("images", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise InputError("must be a list of paths", field="images")
    marks = row["prompt"].count("<image>")
    if marks and marks != len(paths):
        raise InputError(f"{marks} <image> marks for {len(paths)} images", field="prompt")
    images = []
    for path in paths:
        try:
            images.append(open_image(path, root=root))
        except InputError as error:
            raise InputError(error.message, file=path, field="images") from error
    return row["prompt"], images


def generate(options: GenerateOptions) -> int:
    """The verb. Exit code 2 when a row failed."""
    source = Path(options.input)
    questions = read_questions(source, Path(options.data_root) if options.data_root else source.parent)
    sampling = SamplingOptions(
        mode=options.mode,
        max_new_tokens=options.max_new_tokens,
        do_sample=options.do_sample,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        max_images=options.max_images,
        seed=options.seed,
    )
    omni = load(options.model_path, device=options.device, dtype=options.dtype)
    folder = RunFolder(options.output_dir, options, options.seed)
    started = time.monotonic()
    records = []
    batch_size = options.batch_size
    done = complete(omni, questions, sampling, template=options.template, batch_size=batch_size, label="answering")
    for number, question, completion in done:
        answer = record_of(number, question, completion, omni, folder, options.seed + number)
        folder.results.append(answer.record)
        records.append(answer.record)
    seconds, tokens = time.monotonic() - started, sum(record["tokens"] for record in records)
    figures = {"rows": len(records), "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}
    write_atomic(folder.path / SUMMARY, json.dumps(figures, indent=1) + "\n")
    print(f"{len(records)} rows, {tokens} tokens in {seconds:.1f} s; see {folder.path / RESULTS}")
    return tell_failures(records)
