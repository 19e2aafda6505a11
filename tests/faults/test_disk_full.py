"""A disk that is full, or broken, in the middle of a run: one clear line, nothing lost, and the same end later."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from faulty import GROWING, Operations, counting, failing
from omni_r1.cli import main
from omni_r1.files import UNFINISHED, AppendLog
from omni_r1.run_record import ANSWERS, RESULTS, SUMMARY
from run_files import Inspector, differences
from small_disk import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 2
# What the system says, and which later operations it refuses too: a full disk stays full.
TROUBLES = {"full": (errno.ENOSPC, GROWING), "broken once": (errno.EIO, ()), "forbidden once": (errno.EACCES, ())}


def with_operations(folder: Path, strike: Callable, run: Callable[[], int]) -> tuple[int, int]:
    """Exit code of `run`, whose operations below `folder` go through `strike`; and their number."""
    with pytest.MonkeyPatch.context() as patch:
        operations = Operations(folder, strike)
        operations.install(lambda owner, name, value: patch.setattr(owner, name, value, raising=False))
        return run(), operations.count


def told_once(stderr: str, folder: Path, failed: list[tuple[str, Path]], code: int) -> None:
    """One line of stderr is an error; it names the file that could not be written, and why."""
    lines = [line for line in stderr.split("\n") if "error" in line.lower()]
    assert len(lines) == 1 and lines[0].startswith("omni-r1: error: "), stderr
    assert "cannot be written" in lines[0] and os.strerror(code) in lines[0], lines
    _, path = failed[0]
    name = path.name.removesuffix(UNFINISHED)
    target = name[1:].rpartition(".")[0] if name != path.name else name  # .NAME.random.unfinished
    assert str(folder) in lines[0] and target in lines[0], (lines, failed[0])


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_at_every_operation(generate, tmp_path, capsys, trouble):
    code, then = TROUBLES[trouble]
    whole = tmp_path / "whole" / "rows"
    ended, operations = with_operations(whole, counting, partial(generate, whole.parent))
    assert ended == 0 and operations > 70  # two rows of three files and a line in the log, and what is around them
    assert len(list(whole.rglob("image_1.png"))) == ROWS
    rows_kept = set()
    for at in range(1, operations + 1):
        folder = tmp_path / str(at) / "rows"
        failed: list[tuple[str, Path]] = []
        capsys.readouterr()
        ended, _ = with_operations(folder, failing(at, code, failed, then), partial(generate, folder.parent))
        if ended == 0 and [name for name, _ in failed] == ["mkdir"]:  # of a folder that is there: no harm done
            assert differences(whole, folder) == 0
            continue
        assert ended == 2 and failed, at
        told_once(capsys.readouterr().err, folder, failed, code)
        inspector = Inspector(folder)
        rows_kept.add(inspector.visit() if folder.exists() else 0)
        done = {path: path.stat().st_mtime_ns for key, path in logged(folder)}
        assert generate(folder.parent) == 0
        assert inspector.visit() == ROWS
        assert {path: path.stat().st_mtime_ns for path in done} == done  # not written again
        assert differences(whole, folder) == 0
    assert rows_kept == set(range(ROWS + 1))


def logged(folder: Path) -> list[tuple[tuple[str, int], Path]]:
    """The rows of the log that are whole, and the result.json of each."""
    if not (folder / ANSWERS).exists():
        return []
    content = (folder / ANSWERS).read_bytes()
    copy = folder.parent / "copy.jsonl"
    copy.write_bytes(content)
    with AppendLog(copy) as log:
        return [((row["id"], row["sample"]), folder / str(row["row"]) / "result.json") for row in log.rows]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_of_a_run_that_goes_on(generate, tmp_path, capsys, trouble):
    """A finished run that is started again, in trouble at every operation: its rows are all there afterwards."""
    code, then = TROUBLES[trouble]
    folder = tmp_path / "out" / "rows"
    assert generate(folder.parent) == 0
    before = (folder / ANSWERS).read_bytes()
    ended, operations = with_operations(folder, counting, partial(generate, folder.parent))
    assert ended == 0 and operations > 20
    for at in range(1, operations + 1):
        failed: list[tuple[str, Path]] = []
        capsys.readouterr()
        ended, _ = with_operations(folder, failing(at, code, failed, then), partial(generate, folder.parent))
        assert failed, at
        if ended or [name for name, _ in failed] != ["mkdir"]:
            assert ended == 2, at
            told_once(capsys.readouterr().err, folder, failed, code)
        assert (folder / ANSWERS).read_bytes() == before
    assert generate(folder.parent) == 0 and (folder / SUMMARY).exists()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_of_a_bench(checkpoint, quick, tmp_path, capsys, trouble):
    code, then = TROUBLES[trouble]
    short = ["--limit", "2", "--mode", "image-only", "--max-new-tokens", "40", "--no-resume"]
    words = ["bench", "--model-path", str(checkpoint), *short]

    def bench(folder: Path) -> int:
        return main([*words, "--output-dir", str(folder)])

    whole, folder = tmp_path / "whole", tmp_path / "out"
    ended, operations = with_operations(whole, counting, partial(bench, whole))
    assert ended == 0 and operations > 50
    for at in range(1, operations + 1):
        failed: list[tuple[str, Path]] = []
        capsys.readouterr()
        ended, _ = with_operations(folder, failing(at, code, failed, then), partial(bench, folder))
        assert failed, at
        if ended or [name for name, _ in failed] != ["mkdir"]:
            assert ended == 2, at
            told_once(capsys.readouterr().err, folder, failed, code)
        if (folder / RESULTS).exists():  # what there is can be read
            with AppendLog(folder / RESULTS) as log:
                assert len(log.rows) <= 2
    assert bench(folder) == 0 and not list(folder.rglob(".*"))
    assert (folder / RESULTS).read_bytes() == (whole / RESULTS).read_bytes()


def test_a_disk_that_is_really_full(generate, tmp_path, capsys):
    disk, whole = tmp_path / "disk", tmp_path / "whole" / "rows"
    with small_disk(disk, "48k") as resize:
        assert generate(whole.parent, rows=8) == 0
        capsys.readouterr()
        assert generate(disk / "out", rows=8) == 2
        [line] = [line for line in capsys.readouterr().err.split("\n") if "error" in line]
        assert line.startswith(f"omni-r1: error: {disk}") and "No space left on device" in line
        inspector = Inspector(disk / "out" / "rows")
        assert 0 < inspector.visit() < 8
        resize("8m")
        assert generate(disk / "out", rows=8) == 0
        assert inspector.visit() == 8 and differences(whole, disk / "out" / "rows") == 0
