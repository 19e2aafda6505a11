"""What a bench begins with: its questions, its judge, and what an earlier run in the folder left.

All that may be wrong with these is told here: before a model is loaded, and before anything in the folder is touched.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni_r1.bench.endpoint import Endpoint
from omni_r1.bench.suites import Item, Suite, load_suite, swap_pictures
from omni_r1.errors import InputError, warn
from omni_r1.files import AppendLog
from omni_r1.generate.run_folder import RunFolder
from omni_r1.options import BenchOptions
from omni_r1.run_record import CONTROL, JUDGED, ORIGIN, RESULTS

TIMING = ("tokens_per_second", "seconds")


def folder_of(options: BenchOptions) -> RunFolder:
    """The run folder, which is only looked at. Raises InputError where the run in it was asked for something else."""
    folder = RunFolder(
        options.output_dir,
        options,
        options.seed,
        log=RESULTS,
        resume=options.resume,
        beside=(CONTROL, JUDGED, ORIGIN),
        begin=False,
    )
    if folder.before is None:
        return folder
    limit, control = folder.before.get("limit"), folder.before.get("control_path")
    fewer = options.limit is not None and (limit is None or options.limit < limit)
    # The last question is shown the first one's pictures: with more questions it would be shown another's.
    if fewer or (options.limit != limit and options.swap_pictures):
        raise folder.refused("limit")
    if control not in (None, options.control_path):
        raise folder.refused("control_path")
    if (kept := folder.path / JUDGED).exists():
        AppendLog(kept).close()  # one that is damaged is told now
    return folder


def chosen(options: BenchOptions) -> Suite:
    """The questions that the options ask for. A run that goes on keeps to the revision it began with."""
    revision = options.revision
    kept = Path(options.output_dir) / ORIGIN
    if revision is None and options.resume and kept.is_file():
        before = origin_in(kept)
        if options.data is None or options.data == before.get("data"):
            revision = before.get("revision")
    suite = load_suite(options.data, options.suite, revision, options.split, options.source_column)
    if options.limit:
        suite.questions = suite.questions[: options.limit]
    if options.swap_pictures:
        asked = suite.questions
        suite.questions = swap_pictures(asked)
        if same := sum(one is other for one, other in zip(asked, suite.questions, strict=True)):
            reason = "none other of their task has as many"
            warn(f"{same} questions keep their pictures: {reason}")
    if (most := options.mm_images_per_prompt) is not None:
        suite.questions = [within(item, most) for item in suite.questions]
    return suite


def within(item: Item, most: int) -> Item:
    """The question, or where it has more pictures than it may have, its error: none of them is dropped."""
    if item.error is not None or len(item.images) <= most:
        return item
    message = f"has {len(item.images)} pictures, more than mm_images_per_prompt, {most}"
    return replace(item, error=InputError(message, field=item.images_field, **item.where))


def endpoint_of(options: BenchOptions) -> Endpoint | None:
    """The judge's. Raises InputError, which does not show the key, where no header can hold it."""
    if options.judge_url is None or options.judge_model is None:
        return None
    key = os.environ.get(options.judge_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"what {options.judge_key_env} has cannot be a key", field="judge_key_env")
    return Endpoint(
        options.judge_url,
        options.judge_model,
        key or None,
        options.judge_timeout,
        options.judge_max_tokens,
        options.judge_tokens_field,
        options.judge_temperature,
    )


def timing_in(file: Path) -> dict[str, Any]:
    """How fast an earlier run in the folder was: one that only judges what is there makes nothing."""
    try:
        before = json.loads(file.read_text())
        return {name: before[name] for name in TIMING if name in before}
    except (OSError, ValueError, TypeError):
        return {}


def origin_in(file: Path) -> dict[str, Any]:
    try:
        origin = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be gone on with: {error}", file=file, field="resume") from error
    return origin if isinstance(origin, dict) else {}


def same_data(folder: RunFolder, suite: Suite) -> None:
    """Raises InputError where a run that goes on has read something else: what its files hold, not where they lie."""
    file = folder.path / ORIGIN
    if folder.before is None or not (folder.records or file.exists()):
        return
    files, before = suite.origin.get("files", {}), origin_in(file).get("files") or {}
    if list(files.values()) != list(before.values()):
        changed = [name for name, sha in files.items() if sha not in before.values()]
        message = f"is not what the run that is to go on has read: {', '.join(changed[:3]) or 'other files'}"
        raise InputError(f"{message}; --no-resume starts anew", file=file, field="data")


def control_before(folder: RunFolder, options: BenchOptions) -> set[str]:
    """The ids that the control of a run that goes on has answered."""
    if folder.before is None or options.control_path is None or not (kept := folder.path / CONTROL).exists():
        return set()
    with AppendLog(kept) as log:
        return {row["id"] for row in log.rows if not (options.retry_errors and row["error"])}
