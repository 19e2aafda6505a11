"""`omni-r1 generate`: questions in (JSONL), drawn answers out. The bench answers its questions the same way.

Each input file has its folder of answers in the original's layout (see `run_folder`), and a run that was interrupted
goes on where it was. A question that cannot be answered is a record with status `error`; the others go on.
"""

import json
import sys
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from omni_r1.answering_options import AnsweringOptions
from omni_r1.errors import InputError, OmniError, warn
from omni_r1.generate.backend import Backend, Completion, Request, SamplingOptions
from omni_r1.generate.questions import Question, input_files, open_source, read_questions
from omni_r1.generate.run_folder import RESULT, RunFolder, for_record, record_of
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import Omni, load
from omni_r1.options import GenerateOptions
from omni_r1.run_record import ANSWERS, progress
from omni_r1.trajectory import TEMPLATES, Image, interleave

TOGETHER = 8  # questions whose pictures are encoded together
KEPT_PIXELS = 2_000_000  # of a question's pictures together, until its record is written


@dataclass
class Task:
    """A question to answer once for each of `seeds`; `samples` are the numbers, from 0, of those answers."""

    question: Question
    samples: Sequence[int]
    seeds: Sequence[int]


@dataclass
class Answered:
    """One answer of a task: which sample it is, what was said, and the question's pictures for the record."""

    task: Task
    place: int
    completion: Completion
    pictures: list[Picture.Image]


def answer(
    backend: Backend,
    omni: Omni,
    tasks: Sequence[Task],
    options: SamplingOptions,
    *,
    template: str,
    append_boi: bool = False,
    label: str,
) -> Iterator[Answered]:
    """Every answer of every task as it is finished, under a progress bar. What fails is an answer with an error."""
    opened: dict[int, list[Picture.Image]] = {}
    failed: list[tuple[int, str]] = []

    def requests() -> Iterator[Request]:
        for start in range(0, len(tasks), TOGETHER):
            seen: dict[int, list[Picture.Image]] = {}
            for key in range(start, min(start + TOGETHER, len(tasks))):
                question = tasks[key].question
                opened[key] = []
                try:
                    if question.error is not None:
                        raise question.error
                    seen[key] = look(omni, question, opened[key])
                except OmniError as error:
                    failed.append((key, str(error)))
            for key, images in encode(omni, seen).items():
                question = tasks[key].question
                try:
                    prompt = omni.vocabulary.render(TEMPLATES[template](interleave(question.text, images))).ids
                except OmniError as error:
                    failed.append((key, str(InputError(str(error), field=question.text_field, **question.where))))
                    continue
                yield Request(key, prompt + [omni.vocabulary.boi] * append_boi, tasks[key].seeds)

    def failures() -> Iterator[Answered]:
        while failed:
            key, reason = failed.pop()
            for place in range(len(tasks[key].samples)):
                yield Answered(tasks[key], place, Completion([], 0, error=reason), opened[key])
                bar.update()
            del opened[key]

    left = {key: len(task.samples) for key, task in enumerate(tasks)}
    with progress(sum(left.values()), "answer", label) as bar:

        def report(_: int, tokens: int) -> None:
            bar.set_postfix_str(f"{tokens} tokens", refresh=False)
            bar.update(0)

        for key, place, completion in backend.stream(requests(), options, report):
            question = tasks[key].question
            if completion.error:
                completion.error = str(InputError(completion.error, **question.where))
            yield Answered(tasks[key], place, completion, opened[key])
            left[key] -= 1
            if not left[key]:
                del opened[key]
            bar.update()
            yield from failures()
        yield from failures()


def look(omni: Omni, question: Question, kept: list[Picture.Image]) -> list[Picture.Image]:
    """A question's pictures as the model sees them; into `kept` goes each for the record, made smaller where large.

    One is open at a time: a few large ones would fill the memory. Raises InputError naming file, row and picture.
    """
    seen = []
    for number, source in enumerate(question.images, 1):
        picture = open_source(source, question.where, question.images_field)
        kept.append(for_record(picture, KEPT_PIXELS // len(question.images)))
        try:
            seen.append(omni.square(picture, number))
        except InputError as error:
            raise InputError(error.message, field=question.images_field, **question.where) from error
    return seen


def encode(omni: Omni, seen: dict[int, list[Picture.Image]]) -> dict[int, list[Image]]:
    """The pictures of some tasks as codes, together."""
    listed = [picture for pictures in seen.values() for picture in pictures]
    codes = iter(omni.vocabulary.tokens_to_codes(omni.encode(listed)).tolist())
    return {key: [Image(tuple(next(codes))) for _ in pictures] for key, pictures in seen.items()}


def tell_failures(records: Sequence[dict[str, Any]]) -> int:
    """One line on stderr for each failed record; the exit code of the run."""
    failed = [record for record in records if record["status"] == "error"]
    for record in failed:
        line = " ".join(record["error"].split())
        print(f"omni-r1: error: {''.join(c if c.isprintable() else repr(c)[1:-1] for c in line)}", file=sys.stderr)
    return 2 if failed else 0


def generate(options: GenerateOptions) -> int:
    """The verb. Exit code 2 when a row failed."""
    source = Path(options.input)
    inputs = {}
    for path in input_files(source):
        root = Path(options.data_root) if options.data_root else path.parent
        inputs[path] = prioritised(read_questions(path, root, options.allow_network), options.priority_terms)
    omni, backend = open_backend(options)
    if options.image_placeholder_id not in (None, omni.vocabulary.image):
        raise InputError(f"is {omni.vocabulary.image} in this checkpoint", field="image_placeholder_id")
    code = 0
    for path, questions in inputs.items():
        code = max(code, answer_file(path, questions, backend, omni, options))
    return code


def open_backend(options: AnsweringOptions) -> tuple[Omni, Backend]:
    """What encodes and decodes pictures, and what completes prompts."""
    devices = options.devices
    loading: dict[str, Any] = {
        "dtype": options.dtype,
        "max_memory": options.max_gpu_memory,
        "quantize": options.quantize,
        "processor_path": options.processor_path,
        "vq_path": options.vq_ref_path,
    }
    alone = options.backend == "transformers" and len(devices) == 1
    omni = load(options.model_path, device=devices[0], language_model=alone, **loading)
    running: dict[str, Any] = {"batch_size": options.batch_size, "compiled": options.compile}
    if alone:
        return omni, TransformersBackend(omni, **running)
    if options.backend == "transformers":
        from omni_r1.generate.worker_backend import WorkerBackend

        return omni, WorkerBackend(options.model_path, devices, **running, **loading)
    from omni_r1.generate.vllm_backend import VllmBackend

    return omni, VllmBackend(
        options.model_path,
        batch_size=options.batch_size,
        max_length=options.max_length,
        dtype=options.dtype,
        tensor_parallel_size=options.tensor_parallel_size,
        processor_path=options.processor_path,
    )


def answer_file(
    path: Path, questions: Sequence[Question], backend: Backend, omni: Omni, options: GenerateOptions
) -> int:
    """Answer the questions of one file into its folder, going on where an earlier run stopped; the exit code."""
    folder = RunFolder(Path(options.output_dir) / path.stem, options, options.seed, log=ANSWERS, resume=options.resume)
    if options.retry_errors:
        folder.forget_errors()
    count = options.num_samples
    tasks = tasks_of(questions, options, folder.records)
    if folder.records:
        print(f"{path.name}: {len(folder.records)} answers are there already", file=sys.stderr)
    started, tokens, longest = time.monotonic(), 0, 0
    for one in answer(
        backend,
        omni,
        tasks,
        sampling_of(options),
        template=options.template,
        append_boi=options.append_boi,
        label=path.name,
    ):
        record = keep(one, folder, omni, count > 1, options.strict_decode)
        tokens, longest = tokens + record["tokens"], max(longest, len(one.completion.ids))
        if options.verbose:
            print(f"{record['id']}: {record['error'] or record['text']}", file=sys.stderr)
    seconds = time.monotonic() - started
    if longest > (made_for := omni.model.config.max_position_embeddings):
        what = f"a row has {longest} tokens with its prompt, the checkpoint's max_position_embeddings is {made_for}"
        warn(f"{path.name}: {what}")
    in_order = sorted(questions, key=lambda question: question.row)
    keys = [(question.id, sample) for question in in_order for sample in range(count)]
    figures = {
        "rows": len(keys),
        "failed": sum(folder.records[key]["status"] == "error" for key in keys),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }
    records = folder.finish(keys, figures)
    answered, failed = len(keys) - figures["failed"], f"{figures['failed']} failed, " * bool(figures["failed"])
    print(f"{answered} answered, {failed}{tokens} new tokens in {seconds:.1f} s; see {folder.path / ANSWERS}")
    return tell_failures(records)


def tasks_of(
    questions: Sequence[Question], options: AnsweringOptions, there: Container[tuple[str, int]] = ()
) -> list[Task]:
    """What is still to be answered. Each answer has its own seed, whichever are there already."""
    count, tasks = options.num_samples, []
    for question in questions:
        missing = [sample for sample in range(count) if (question.id, sample) not in there]
        first = options.seed + (question.row - 1) * count
        if missing:
            tasks.append(Task(question, missing, [first + sample for sample in missing]))
    return tasks


def sampling_of(options: AnsweringOptions) -> SamplingOptions:
    """What of the verb's options says how to sample."""
    return SamplingOptions(**{field.name: getattr(options, field.name) for field in fields(SamplingOptions)})


def prioritised(questions: Sequence[Question], terms: str | None) -> list[Question]:
    """The questions whose id or text has one of the terms first, each part in its order."""
    words = [word.strip().lower() for word in (terms or "").split(",") if word.strip()]

    def late(question: Question) -> bool:
        return not any(word in f"{question.id} {question.text}".lower() for word in words)

    return sorted(questions, key=late)


def keep(one: Answered, folder: RunFolder, omni: Omni, several: bool, strict: bool) -> dict[str, Any]:
    """Write an answer: its pictures and result.json into the row's own folder, then its line of the log."""
    question, sample = one.task.question, one.task.samples[one.place]
    name = f"{question.row}-{sample + 1}" if several else f"{question.row}"
    record, _ = record_of(
        question,
        sample,
        one.completion,
        one.pictures,
        omni,
        lambda picture, short: folder.picture(picture, f"{name}/{short}"),
        one.task.seeds[one.place],
        strict,
    )
    folder.write(f"{name}/{RESULT}", json.dumps(record, indent=1) + "\n")
    folder.add(record)
    return record
