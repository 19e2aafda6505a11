"""`omni-r1 bench`: answer a suite's questions, grade answers and drawings, write records and figures."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image as Picture

from omni_r1.bench.statistics import summarise
from omni_r1.bench.suite import Suite, load_suite, swap_pictures
from omni_r1.errors import InputError
from omni_r1.generate.backend import Completion, SamplingOptions
from omni_r1.generate.questions import open_source
from omni_r1.generate.run_folder import RunFolder, for_record, record_of
from omni_r1.generate.runner import KEPT_PIXELS, Answered, Task, answer, tell_failures
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import Omni, load
from omni_r1.options import BenchOptions
from omni_r1.perpo.reward import grade
from omni_r1.run_record import RESULTS, SUMMARY

LONGEST_QUESTION = 12_000  # tokens, as the most that `generate` takes by default
SEED = 0  # recorded; greedy decoding does not use it


def judge_into(record: dict, drawn: list[Picture.Image], gold: list[Picture.Image], suite: Suite) -> None:
    """Fill in the verdict of each drawn step, where the suite has a judge."""
    if suite.judge is None:
        return
    record["judged"] = True
    steps = [segment for segment in record["segments"] if "image" in segment]
    for place, (step, picture) in enumerate(zip(steps, drawn, strict=True)):
        correct, reason = suite.judge(picture, gold[place]) if place < len(gold) else (False, "one drawing too many")
        step["step"] = {"correct": correct, "reason": reason}


def control_answers(path: str, suite: Suite, options: BenchOptions, sampling: SamplingOptions) -> dict[str, dict]:
    """What the text-only control answers, a verdict by question id; `error` where it failed."""
    omni = load(path, device=options.device, dtype=options.dtype)
    verdicts = {}
    for one in answers(omni, suite, options, sampling, "control"):
        said = one.completion.answer
        correct = grade(said, one.task.question.gold or "").correct
        verdicts[one.task.question.id] = {"answer": said, "correct": correct, "error": one.completion.error}
    return verdicts


def answers(
    omni: Omni, suite: Suite, options: BenchOptions, sampling: SamplingOptions, label: str
) -> Iterator[Answered]:
    backend = TransformersBackend(omni, options.batch_size)
    tasks = [Task(question, [0], [SEED]) for question in suite.questions]
    return answer(backend, omni, tasks, sampling, template=options.template, label=label)


def run_bench(options: BenchOptions) -> tuple[Path, dict, int]:
    """Run a benchmark; the run folder, its summary, and the exit code (2 when a row failed)."""
    started = time.monotonic()
    suite = load_suite(options.data)
    if options.limit:
        suite.questions = suite.questions[: options.limit]
    if options.swap_pictures:
        suite.questions = swap_pictures(suite.questions)
    longest = LONGEST_QUESTION + options.max_new_tokens
    sampling = SamplingOptions(mode=options.mode, max_new_tokens=options.max_new_tokens, max_length=longest)  # greedy
    omni = load(options.model_path, device=options.device, dtype=options.dtype)
    folder = RunFolder(options.output_dir, options, SEED, log=RESULTS)
    controls = control_answers(options.control_path, suite, options, sampling) if options.control_path else {}
    tokens, generating = 0, time.monotonic()
    for one in answers(omni, suite, options, sampling, "answering"):
        record = record_answer(one, omni, folder, suite)
        record["control"] = controls.get(record["id"])
        folder.add(record)
        tokens += record["tokens"]
    finished = time.monotonic()
    records = [folder.records[question.id, 0] for question in suite.questions]
    summary = {"suite": suite.name, **summarise(records)}
    summary["tokens_per_second"] = tokens / (finished - generating)
    summary["seconds"] = finished - started
    folder.finish([(question.id, 0) for question in suite.questions], summary)
    control_failed = sum(bool(verdict["error"]) for verdict in controls.values())
    if control_failed:
        print(f"omni-r1: error: the control failed on {control_failed} questions; see {RESULTS}", file=sys.stderr)
    return folder.path, summary, max(tell_failures(records), 2 if control_failed else 0)


def record_answer(one: Answered, omni: Omni, folder: RunFolder, suite: Suite) -> dict:
    """The graded and judged record of an answer, its pictures stored in the folder."""
    question = one.task.question

    def store(picture: Picture.Image, name: str) -> str:
        return folder.picture(picture, f"images/{question.row}-{name}")

    try:
        share = KEPT_PIXELS // max(1, len(question.gold_images))
        gold = [for_record(open_source(source, question.where), share) for source in question.gold_images]
    except InputError as error:  # without them the drawings cannot be judged
        reason = str(InputError(error.message, field="steps", **question.where))
        gold, one.completion = [], Completion([], 0, error=one.completion.error or reason)
    record, drawn = record_of(question, 0, one.completion, one.pictures, omni, store, SEED)
    record["gold_images"] = [store(picture, f"gold_{number}") for number, picture in enumerate(gold, 1)]
    verdict = grade(record["answer"], question.gold or "")
    record["correct"], record["reason"] = verdict.correct, verdict.reason
    judge_into(record, drawn, gold, suite)
    return record


def bench(options: BenchOptions) -> int:
    """The verb: one line of figures; `omni-r1 report` shows the rest."""
    path, summary, code = run_bench(options)
    low, high = summary["interval"]["overall"]
    accuracy = f"accuracy {summary['accuracy']['overall']:.1%} [{low:.1%}, {high:.1%}]"
    print(f"{accuracy} on {summary['count']['overall']} questions of {summary['suite']}; see {path / SUMMARY}")
    return code
