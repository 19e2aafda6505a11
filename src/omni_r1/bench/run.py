"""`omni-r1 bench`: answer a suite's questions, grade answers and drawings, write records and figures."""

import json
import sys
import time
from pathlib import Path

from omni_r1.bench.statistics import summarise
from omni_r1.bench.suite import Suite, load_suite, swap_pictures
from omni_r1.files import write_atomic
from omni_r1.generate.backend import SamplingOptions
from omni_r1.generate.runner import RESULTS, SUMMARY, Answer, RunFolder, complete, record_of, tell_failures
from omni_r1.model import load
from omni_r1.options import BenchOptions
from omni_r1.perpo.reward import grade
from omni_r1.trajectory import extract_answer

SEED = 0  # recorded; greedy decoding does not use it


def grade_into(answer: Answer, suite: Suite, gold_images: list) -> None:
    """Fill in the verdict of the record's answer and of each drawn step."""
    record = answer.record
    verdict = grade(record["answer"], record["gold"] or "")
    record["correct"], record["reason"] = verdict.correct, verdict.reason
    if suite.judge is None:
        return
    record["judged"] = True
    steps = [segment for segment in record["segments"] if "image" in segment]
    for place, (step, picture) in enumerate(zip(steps, answer.drawn, strict=True)):
        if place < len(gold_images):
            correct, reason = suite.judge(picture, gold_images[place])
        else:
            correct, reason = False, "one drawing too many"
        step["step"] = {"correct": correct, "reason": reason}


def control_answers(path: str, suite: Suite, options: BenchOptions, sampling: SamplingOptions) -> list[dict]:
    """What the text-only control answers, a verdict a question; `error` where it failed."""
    omni = load(path, device=options.device, dtype=options.dtype)
    verdicts = []
    done = complete(
        omni, suite.questions, sampling, template=options.template, batch_size=options.batch_size, label="control"
    )
    for _, question, completion in done:
        answer = extract_answer(completion.trajectory.response_text) if completion.trajectory else None
        correct = grade(answer, question.gold or "").correct
        verdicts.append({"answer": answer, "correct": correct, "error": completion.error})
    return verdicts


def run_bench(options: BenchOptions) -> tuple[Path, dict, int]:
    """Run a benchmark; the run folder, its summary, and the exit code (2 when a row failed)."""
    started = time.monotonic()
    suite = load_suite(options.data)
    if options.limit:
        suite.questions = suite.questions[: options.limit]
    if options.swap_pictures:
        suite.questions = swap_pictures(suite.questions)
    sampling = SamplingOptions(mode=options.mode, max_new_tokens=options.max_new_tokens)  # greedy
    omni = load(options.model_path, device=options.device, dtype=options.dtype)
    folder = RunFolder(options.output_dir, options, SEED)
    controls: list[dict] | list[None] = [None] * len(suite.questions)
    if options.control_path:
        controls = control_answers(options.control_path, suite, options, sampling)
    records = []
    generating = time.monotonic()
    done = complete(
        omni, suite.questions, sampling, template=options.template, batch_size=options.batch_size, label="answering"
    )
    for number, question, completion in done:
        answer = record_of(number, question, completion, omni, folder, SEED)
        grade_into(answer, suite, question.gold_images)
        answer.record["control"] = controls[number]
        folder.results.append(answer.record)
        records.append(answer.record)
    finished = time.monotonic()
    summary = {"suite": suite.name, **summarise(records, suite.chance())}
    summary["tokens_per_second"] = sum(record["tokens"] for record in records) / (finished - generating)
    summary["seconds"] = finished - started
    write_atomic(folder.path / SUMMARY, json.dumps(summary, indent=1) + "\n")
    control_failed = sum(bool(verdict and verdict["error"]) for verdict in controls)
    if control_failed:
        print(f"omni-r1: error: the control failed on {control_failed} questions; see {RESULTS}", file=sys.stderr)
    return folder.path, summary, max(tell_failures(records), 2 if control_failed else 0)


def bench(options: BenchOptions) -> int:
    """The verb: one line of figures; `omni-r1 report` shows the rest."""
    path, summary, code = run_bench(options)
    low, high = summary["interval"]["overall"]
    accuracy = f"accuracy {summary['accuracy']['overall']:.1%} [{low:.1%}, {high:.1%}]"
    print(f"{accuracy} on {summary['count']['overall']} questions of {summary['suite']}; see {path / SUMMARY}")
    return code
