"""`omni-r1 bench`: answer a suite's questions, grade answers and drawings, write records and figures.

Answers are made by the runner of `generate`, and a run goes on as one of `generate` does. What a judge says is kept
beside the records; it and the figures are made when all answers are there.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni_r1.bench.beginning import (
    TIMING,
    chosen,
    control_before,
    endpoint_of,
    folder_of,
    same_data,
    timing_in,
)
from omni_r1.bench.endpoint import Endpoint
from omni_r1.bench.judge import Judge
from omni_r1.bench.profiles import judged_by
from omni_r1.bench.records import agreement, also, grade_into, opinion_into, original_line, record_answer
from omni_r1.bench.statistics import summarise, verdicts_missing
from omni_r1.bench.suites import Item, Suite
from omni_r1.errors import warn
from omni_r1.files import AppendLog, write_atomic
from omni_r1.generate.backend import Backend, WorkerError, room_for_an_image
from omni_r1.generate.run_folder import RunFolder
from omni_r1.generate.runner import Answered, Task, answer, open_backend, sampling_of, tasks_of, tell_failures
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import Omni, checkpoint, load
from omni_r1.options import BenchOptions
from omni_r1.run_record import CONTROL, ORIGIN, RESULTS, SUMMARY
from omni_r1.trajectory import counted

REASONS = 3  # why a judge gave no verdict: so many are told


def run_bench(options: BenchOptions) -> tuple[Path, dict, int]:
    """Run a benchmark; the run folder, its summary, and the exit code (2 when a row failed, or has no verdict)."""
    started = time.monotonic()
    folder = folder_of(options)
    suite, endpoint = chosen(options), endpoint_of(options)
    same_data(folder, suite)
    items, several = {item.id: item for item in suite.questions}, options.num_samples > 1
    tasks = tasks_of(suite.questions, options, folder.sound() if options.retry_errors else folder.records)
    control_path = control_of(folder, suite, options)
    model = open_backend(options) if tasks else None  # kept answers are graded without one
    if model is not None:
        room_for_an_image(model[0].vocabulary, sampling_of(options), begun=options.append_boi)
    control = load(control_path, device=options.devices[0], dtype=options.dtype) if control_path else None
    timing = {} if folder.before is None else timing_in(folder.path / SUMMARY)
    folder.begin()
    write_atomic(folder.path / ORIGIN, json.dumps({"suite": suite.name, **suite.origin}, indent=1) + "\n")
    if options.retry_errors:
        folder.forget_errors()
    if folder.records:
        print(f"{suite.name}: {len(folder.records)} answers are there already", file=sys.stderr)
    controls = control_answers(folder, suite, options, control) if options.control_path else {}
    del control  # its memory
    tokens, generating = 0, time.monotonic()
    if model is not None:
        omni, backend = model
        for one in answers(omni, backend, tasks, options, "answering"):
            item = items[one.task.question.id]
            record = record_answer(one, item, omni, folder, suite, options.profile, several)
            record["control"] = controls.get(record["id"])
            folder.add(record)
            tokens += record["tokens"]
    seconds = time.monotonic() - generating
    keys = [(item.id, sample) for item in suite.questions for sample in range(options.num_samples)]
    records = [folder.records[key] for key in keys]
    for record in records:  # those that were kept may be from before the control was asked, or graded by other rules
        record["control"] = controls.get(record["id"])
        grade_anew(record, items[record["id"]], options.profile)
    judged = ask_judge(records, folder, options, endpoint)
    summary = {"suite": suite.name, **summarise(records), **also(records)}
    summary |= {"judge": judged} if judged else {}
    if tasks:
        timing = dict(zip(TIMING, (tokens / max(seconds, 1e-9), time.monotonic() - started), strict=True))
    summary |= timing
    folder.finish(keys, summary)
    if options.outfile:
        file = Path(options.data or suite.name).name
        lines = [json.dumps(original_line(record, items[record["id"]], file, several)) + "\n" for record in records]
        write_atomic(folder.path / options.outfile, "".join(lines))
    control_failed = sum(bool(verdict["error"]) for verdict in controls.values())
    if control_failed:
        print(f"omni-r1: error: the control failed on {control_failed} questions; see {RESULTS}", file=sys.stderr)
    if missing := verdicts_missing(records):
        print(f"omni-r1: error: {missing}", file=sys.stderr)
    return folder.path, summary, max(tell_failures(records), 2 if control_failed or missing else 0)


def grade_anew(record: dict[str, Any], item: Item, profile: str | None) -> None:
    """A record that was kept, by the rules that count now."""
    wanted = profile or item.profile
    if record.get("profile") != wanted:
        record["profile"] = wanted
        grade_into(record, judged_by(wanted, record["answer"], item))


def answers(
    omni: Omni, backend: Backend, tasks: Sequence[Task], options: BenchOptions, label: str
) -> Iterator[Answered]:
    """Every answer. Where a device's worker dies, it is told, and what is missing is asked of new workers.

    Raises WorkerError for the second death without an answer between: it would go on for ever.
    """
    deaths = 0
    while tasks:
        done: set[tuple[str, int]] = set()
        try:
            sampling, template = sampling_of(options), options.template
            for one in answer(
                backend, omni, tasks, sampling, template=template, append_boi=options.append_boi, label=label
            ):
                done.add((one.task.question.id, one.task.samples[one.place]))
                yield one
            return
        except WorkerError as error:
            deaths = 1 if done else deaths + 1
            if len(options.devices) == 1 or deaths == 2:
                raise
            warn(f"{error}; what it was at is asked again")
        tasks = [left for task in tasks if (left := without(task, done)).samples]
        backend = open_backend(options)[1]


def without(task: Task, done: set[tuple[str, int]]) -> Task:
    """The task without the answers that are there."""
    pairs = zip(task.samples, task.seeds, strict=True)
    left = [(sample, seed) for sample, seed in pairs if (task.question.id, sample) not in done]
    return Task(task.question, [sample for sample, _ in left], [seed for _, seed in left])


def control_of(folder: RunFolder, suite: Suite, options: BenchOptions) -> Path | None:
    """The checkpoint of the text-only control, where there is one and it has something to answer.

    Raises CheckpointError where it is not there, which is told before a model is loaded.
    """
    there = control_before(folder, options)
    if options.control_path is None or all(item.id in there for item in suite.questions):
        return None
    return checkpoint.locate(options.control_path)


def control_answers(folder: RunFolder, suite: Suite, options: BenchOptions, omni: Omni | None) -> dict[str, dict]:
    """What the text-only control answers, a verdict by question id; `error` where it failed. Kept for a run that goes
    on, as the answers are, with the profile that they were graded by."""
    items = {item.id: item for item in suite.questions}

    def graded(row: dict[str, Any]) -> dict[str, Any]:
        item = items[row["id"]]
        profile = options.profile or item.profile
        if row.get("profile") == profile:
            return row
        return row | {"profile": profile, "correct": judged_by(profile, row["answer"], item).correct}

    with AppendLog(folder.path / CONTROL) as log:
        kept = [graded(row) for row in log.rows if not (options.retry_errors and row["error"])]
        if kept != log.rows:
            log.rewrite(kept)
        there = {row["id"] for row in log.rows}
        left = [item for item in suite.questions if item.id not in there]
        if left and omni is not None:
            backend = TransformersBackend(omni, options.batch_size)
            alone = replace(options, num_samples=1, append_boi=False, device=options.devices[0])
            for one in answers(omni, backend, tasks_of(left, alone), alone, "control"):
                said = one.completion
                log.append(graded({"id": one.task.question.id, "answer": said.answer, "error": said.error}))
        return {row["id"]: {key: row[key] for key in ("answer", "correct", "error")} for row in log.rows}


def ask_judge(
    records: Sequence[dict], folder: RunFolder, options: BenchOptions, endpoint: Endpoint | None
) -> dict[str, Any] | None:
    """Put the judge's verdicts into the records; its figures, None where there is none."""
    for record in records:
        opinion_into(record, None, None, "rule")
    if endpoint is None:
        return None
    judge = Judge(endpoint, folder.path, options.judge_retries, options.judge_parallel)
    asked = [record for record in records if record["status"] != "error"]
    pairs = [(record["answer"], record["gold"] or "") for record in asked]
    for record, opinion in zip(asked, judge.opinions(pairs), strict=True):
        opinion_into(record, opinion, endpoint.model, options.primary)
    judge.log.close()
    silent = Counter(record["judge"]["reason"] for record in asked if record["judge"]["correct"] is None)
    for reason, count in silent.most_common(REASONS):
        warn(f"no verdict of {endpoint.url} on {counted(count, 'answer')}: {reason}")
    figures = judge.figures(options.judge_price_in, options.judge_price_out)
    return {"primary": options.primary == "judge", **agreement(records), **figures}


def bench(options: BenchOptions) -> int:
    """The verb: a line of figures, and one of the judge's; `omni-r1 report` shows the rest."""
    path, summary, code = run_bench(options)
    low, high = summary["interval"]["overall"]
    accuracy = f"accuracy {summary['accuracy']['overall']:.1%} [{low:.1%}, {high:.1%}]"
    left_out = {name: summary[key]["overall"] for name, key in LEFT_OUT.items()}
    told = "".join(f", {count} {name}" for name, count in left_out.items() if count)
    asked = counted(summary["count"]["overall"], "question")
    print(f"{accuracy} on {asked} of {summary['suite']}{told}; see {path / SUMMARY}")
    if (judged := summary.get("judge")) is not None:
        print(judge_line(judged))
    return code


LEFT_OUT = {"failed": "failed", "without an answer": "no_answer", "unparsed": "unparsed", "ungraded": "ungraded"}


def judge_line(judged: dict[str, Any]) -> str:
    """What the judge says, in a line; first what it did not say."""

    def percent(share: float | None) -> str:
        return "–" if share is None else f"{share:.1%}"

    missing, accuracy = judged["missing"]["overall"], judged["accuracy"]["overall"]
    agree = f"agrees with the rules on {percent(judged['agreement'])}"
    tokens = f"{judged['tokens_in']} tokens in, {judged['tokens_out']} out"
    cost = f", cost {judged['cost']:.4f}" if judged["cost"] else ""
    return f"judge {judged['model']}: {missing} verdicts missing, accuracy {percent(accuracy)}, {agree}; {tokens}{cost}"
