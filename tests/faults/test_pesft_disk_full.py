"""A disk that is full, or broken, while training: one clear line, checkpoints stay whole, the same end later."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from omni_r1.errors import InputError
from omni_r1.files import UNFINISHED
from omni_r1.pesft import checkpoints
from omni_r1.pesft.resumable import LogFile
from small_disk import small_disk
from tiny import write_checkpoint
from training_files import differences, rows_of, whole_checkpoints, write_rows
from training_server import GROWING, SAVERS, Ended, TrainingServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TROUBLES = {"full": (errno.ENOSPC, GROWING), "broken once": (errno.EIO, [])}
OPTIONS = ["--learning-rate", "1e-2", "--max-steps", "3", "--save-steps", "1", "--logging-steps", "1", "--use-cpu"]


class Run:
    """A run of three steps that was killed while its third was saved, and the same run untouched."""

    def __init__(self, base: Path) -> None:
        self.model, self.rows = write_checkpoint(base / "model"), write_rows(base / "rows.jsonl", 2)
        self.server = TrainingServer(self.model, self.rows, base / "warm")
        self.said, self.untouched, self.started = base / "said", base / "untouched", base / "started"
        assert self.attempt(self.untouched).code == 0, self.said.read_text()
        assert self.attempt(self.started, aim="checkpoint-3/.manifest", kill=(0, "half")).code == -9
        assert [checkpoints.step_of(place) for place in whole_checkpoints(self.started)] == [1, 2]

    def attempt(self, output: Path, *more: str, **order) -> Ended:
        words = ["--model-path", str(self.model), "--train-data", str(self.rows), "--output-path", str(output)]
        words += [*OPTIONS, *more, "--resume-from-checkpoint", "last"]
        return self.server.attempt(["pesft", *words], self.said, folder=output, **order)

    def told_once(self, output: Path) -> str:
        """The one line of what it said that is an error; it names what could not be written."""
        said = self.said.read_text().replace("\r", "\n")
        lines = [line for line in said.split("\n") if "error" in line.lower() and "UserWarning" not in line]
        assert len(lines) == 1 and lines[0].startswith(f"omni-r1: error: {output}"), said
        assert "Traceback" not in said
        assert any(f"cannot be {what}" in lines[0] for what in ("written", "removed", "read")), lines
        return lines[0]

    def kept(self, output: Path) -> int:
        """The step of the newest checkpoint; all that are listed load."""
        found = whole_checkpoints(output)
        assert found
        return checkpoints.step_of(found[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = Run(tmp_path_factory.mktemp("training"))
    with made.server:
        yield made


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_at_every_operation(run, tmp_path, trouble):
    code, then = TROUBLES[trouble]
    output, hit, tried = tmp_path / "out", set(), set()
    at = kept = 0
    while True:
        at += 1
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(run.started, output)
        ended = run.attempt(output, fail=(at, code, then))
        if not ended.failed:  # the run has fewer operations
            break
        name, path = ended.failed[0]
        if trouble == "full" and name not in GROWING:
            continue
        hit.add(name)
        if ended.code == 0 and name == "mkdir":  # of a folder that is there: no harm done
            assert differences(run.untouched, output) == []
            continue
        assert ended.code == 2, (at, ended, run.said.read_text())
        line = run.told_once(output)
        file = Path(path).name
        file = file[1:].rpartition(".")[0].removesuffix(UNFINISHED) if file.endswith(UNFINISHED) else file
        if name not in SAVERS:
            assert os.strerror(code) in line, (line, ended)
        assert str(output / "steps") in line or file.rpartition(".")[0] in line or str(output) in line, (line, ended)
        kept = max(kept, run.kept(output))
        left = frozenset((str(file.relative_to(output)), file.stat().st_size) for file in output.rglob("*"))
        if left in tried:  # the same files as after an earlier failure, with which the run has gone on
            continue
        tried.add(left)
        assert run.attempt(output).code == 0, (at, run.said.read_text())
        assert differences(run.untouched, output) == [], (at, ended)
    assert ended.code == 0 and differences(run.untouched, output) == []
    print(trouble, at, hit, len(tried))
    assert kept == 3 and at > 200 and hit >= {"open", "write", "mkdir", *SAVERS}


def test_files_that_may_not_grow(run, tmp_path):
    """Upstream's own writers, refused by the system itself at sizes from nothing to the largest file."""
    output, told = tmp_path / "out", set()
    largest = max(path.stat().st_size for path in run.untouched.rglob("*"))
    limit, codes = 0, []
    while limit < largest:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(run.started, output)
        said = run.said
        ended = run.attempt(output, limit=limit)
        codes.append(ended.code)
        run.said = said
        if limit >= 1 << 14:  # below, not even what it says is whole
            assert ended.code == 2, (limit, run.said.read_text())
            told.add(run.told_once(output).partition(": cannot")[0].rpartition("/")[2])
        assert ended.code and run.kept(output) == 2, limit
        assert run.attempt(output).code == 0, run.said.read_text()
        assert differences(run.untouched, output) == [], limit
        limit = max(limit + 511, round(limit * 1.25))
    print(len(codes), told)
    assert run.attempt(output, limit=largest).code == 0


def test_optimiser_files_that_may_not_grow(run, tmp_path):
    """With an adapter the optimiser's file is the largest: torch is refused, not the writer of the weights."""
    untouched, output, more = tmp_path / "untouched", tmp_path / "out", ["--lora-rank", "8"]
    assert run.attempt(untouched, *more).code == 0, run.said.read_text()
    first = untouched / "steps" / "checkpoint-3"
    least, most = ((first / name).stat().st_size for name in ("adapter_model.safetensors", "optimizer.pt"))
    assert most > 1.5 * least
    for limit in range(least, most, (most - least) // 6):
        shutil.rmtree(output, ignore_errors=True)
        assert run.attempt(output, *more, limit=limit).code == 2, run.said.read_text()
        assert run.told_once(output).startswith(f"omni-r1: error: {output}/steps/checkpoint-1: cannot be written")
        assert whole_checkpoints(output) == []
        assert run.attempt(output, *more).code == 0, run.said.read_text()
        assert differences(untouched, output) == []


def test_a_disk_that_is_really_full(run, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "9m") as resize:
        output, codes, told = disk / "out", [], set()
        shutil.copytree(run.started, output, ignore=shutil.ignore_patterns(checkpoints.STAGE))
        used = shutil.disk_usage(disk).used // 1024
        for room in range(64, 9000, 300):
            resize(f"{used + room}k")
            ended = run.attempt(output)
            codes.append(ended.code)
            if ended.code == 0:
                break
            assert ended.code == 2, run.said.read_text()
            told.add(run.told_once(output).removeprefix(f"omni-r1: error: {output}/").partition(": cannot")[0])
            assert run.kept(output) >= 2
        print(codes, told)
        assert codes.count(2) > 2 and codes[-1] == 0
        assert "steps/checkpoint-3" in told and len(told) > 1  # the optimiser's file, and others
        assert differences(run.untouched, output) == []


def test_a_torn_log_line_is_cut_and_a_damaged_one_named(run, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(run.started, output)
    log = output / "log.jsonl"
    content = log.read_bytes()
    log.write_bytes(content + b'{"step": 3, "lo')
    assert run.attempt(output).code == 0, run.said.read_text()
    assert differences(run.untouched, output) == []
    log.write_bytes(content.replace(b'"step": 1', b'"step": 7'))
    with pytest.raises(InputError, match="log.jsonl:1: damaged row: checksum"):
        LogFile(log).open(2)
    assert run.attempt(output).code == 2
    assert "log.jsonl:1: damaged row" in run.said.read_text()
    assert len(rows_of(run.untouched / "log.jsonl")) == 4
