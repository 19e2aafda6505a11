"""Resumable checkpoints: whole or not there. `steps/checkpoint-N` is written elsewhere, synced and moved into place.

Its `manifest.json`, with the digest of every file, is the last file written, and resuming compares them all. The
checkpoint before it is removed only then.
"""

import json
import os
import shutil
from pathlib import Path

from omni_r1.errors import InputError
from omni_r1.files import read_bytes, sha256, sync, write_atomic, writing

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
STAGE = ".unfinished"  # the folder beside the checkpoints where the next one is made
NAME = "checkpoint-"
KEPT = 2  # should the last one be damaged, there is one more
MAX_MANIFEST = 16 * 1024 * 1024
SUMS = "sums_{}.json"  # of the process of that number: what its next log row is made of
LAST = ("last", "true")  # as HF's own option, which is a path or true


def seal(staged: Path, steps: Path) -> None:
    """Move a finished checkpoint from its stage to the others in `steps`, and remove all but the last `KEPT`.

    Raises InputError naming the checkpoint where the system refuses; those that were there stay whole.
    """
    place = steps / staged.name
    with writing(place):
        inside = sorted(staged.rglob("*"))
        files = [path for path in inside if path.is_file()]
        sums = {str(file.relative_to(staged)): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
        for path in inside:
            sync(path)
        write_atomic(staged / MANIFEST, json.dumps({"files": sums}, indent=1) + "\n")
        if place.exists():  # without a manifest, or `tidy` had removed it
            _remove(place)
        os.replace(staged, place)
        sync(steps)
    tidy(steps, step_of(place))


def _remove(place: Path) -> None:
    """Out of sight at once, then away: a process that is killed meanwhile leaves no half of a checkpoint."""
    gone = place.parent / STAGE / f"old-{place.name}"
    try:
        gone.parent.mkdir(exist_ok=True)
        os.replace(place, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise InputError(f"cannot be removed: {error.strerror or error}", file=place) from error


def tidy(steps: Path, step: int) -> None:
    """Remove the checkpoints behind a step, which a run that goes on from it makes again, and all but the last `KEPT`.

    A run may have been killed after it moved a checkpoint into place and before it removed an older one.
    """
    found = whole(steps)
    behind = [place for place in reversed(found) if step_of(place) > step]  # in this order, interrupted it has no gap
    for place in behind + found[: len(found) - len(behind)][:-KEPT]:
        _remove(place)


def step_of(place: Path) -> int:
    return int(place.name.removeprefix(NAME))


def whole(steps: Path) -> list[Path]:
    """The checkpoints of a run by their steps; whatever has no manifest is none."""
    found = [path.parent for path in steps.glob(f"{NAME}*/{MANIFEST}") if path.parent.name[len(NAME) :].isdigit()]
    return sorted(found, key=step_of)


def clear_stage(steps: Path) -> None:
    """Remove what a killed process left half done: all of it, or the next checkpoint would have it inside."""
    if (steps / STAGE).exists():
        shutil.rmtree(steps / STAGE)


def find(wanted: str | None, steps: Path, verify: bool = True) -> Path | None:
    """The checkpoint to go on from: a path, or `last` for the newest of this run, which may have none yet.

    Raises InputError naming the file that is missing or damaged, or `steps` where it has checkpoints of another run:
    by their numbers they would be taken for this run's, or this run's removed as older ones.
    """
    found = whole(steps)
    if wanted is not None and wanted.lower() in LAST:
        place = found[-1] if found else None
    else:
        place = Path(wanted) if wanted else None
    if place is not None and verify:
        _verify(place)
    if found and (place is None or place.resolve().parent != steps.resolve()):
        reason = "has checkpoints of an earlier run: go on from the 'last', or move them away"
        raise InputError(reason, file=steps, field="resume_from_checkpoint")
    return place


def _verify(place: Path) -> None:
    manifest = place / MANIFEST
    try:
        files = json.loads(read_bytes(manifest, MAX_MANIFEST))["files"]
        wanted = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no resumable checkpoint: {getattr(error, 'strerror', None) or error}"
        raise InputError(reason, file=manifest, field="resume_from_checkpoint") from error
    for name, (size, digest) in wanted.items():
        file = place / name
        if not file.is_file() or file.stat().st_size != size or sha256(file) != digest:
            raise InputError("is not the file that was saved", file=file, field="resume_from_checkpoint")
    for name in (STATE, SUMS.format(0)):
        if name not in wanted:
            raise InputError(f"has no {name}", file=manifest, field="resume_from_checkpoint")
