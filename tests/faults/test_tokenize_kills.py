"""`tokenize` that is killed at any moment, or whose disk is full, ends with the files of a run that nobody touched."""

import errno
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from corpora import own_rows
from faulty import GROWING, Operations, counting, failing
from fork_server import ForkServer
from omni_r1 import run_record
from omni_r1.cli import main
from omni_r1.data import tokenize
from omni_r1.data.shards import TokenDataset
from omni_r1.model import load
from shard_folders import content, killed_at_random
from small_disk import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, PER_SHARD, KILLS = 96, 8, 40
OF_A_SHARD = 12  # operations on files, about, of a shard and its line of the log


def words(source: Path, checkpoint: Path, *more: str) -> list[str]:
    """All but the folder, which comes last."""
    named = ["--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint)]
    return ["tokenize", *named, *more, "--output-path"]


def test_killed_at_random(checkpoint, tmp_path):
    source = own_rows(tmp_path / "own", ROWS, pictures=40)
    asked = words(source, checkpoint, "--rows-per-shard", str(PER_SHARD), "--batch-size", "4")
    whole, said = tmp_path / "whole", tmp_path / "said"

    def check(rows: TokenDataset, folder: Path) -> None:
        assert len(rows) == 82

    with ForkServer(str(checkpoint)) as server:
        assert server.attempt([*asked, str(whole)], said) == 0, said.read_text()
        assert len(list(whole.glob("shards/*.parquet"))) == 11  # 82 rows
        shape = {"by_operation": 0.5, "operations": 4 * OF_A_SHARD, "delay": 0.15}
        killed_at_random(server, asked, whole, load(checkpoint).vocabulary, check, kills=KILLS, **shape)


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch):
    """`run(folder)`: the verb on a few rows, the checkpoint loaded once."""
    omni, source = load(checkpoint), own_rows(tmp_path / "own", 9)
    monkeypatch.setattr(tokenize, "load", lambda *_, **__: omni)
    monkeypatch.setattr(run_record, "_commit", lambda: None)

    def run(folder: Path, *more: str) -> int:
        return main([*words(source, checkpoint, "--rows-per-shard", "4", *more), str(folder)])

    return run


def with_operations(folder: Path, strike, run) -> tuple[int, int]:
    with pytest.MonkeyPatch.context() as patch:
        operations = Operations(folder, strike)
        operations.install(lambda owner, name, value: patch.setattr(owner, name, value, raising=False))
        return run(), operations.count


def test_a_full_disk_at_every_operation(run, tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "out"
    ended, count = with_operations(whole, counting, partial(run, whole))
    assert ended == 0 and count > 40
    for at in range(1, count + 1):
        shutil.rmtree(folder, ignore_errors=True)
        failed: list[tuple[str, Path]] = []
        capsys.readouterr()
        ended, _ = with_operations(folder, failing(at, errno.ENOSPC, failed, GROWING), partial(run, folder))
        assert failed, at
        if ended == 0 and failed[0][0] == "mkdir":  # of a folder that is there
            continue
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert ended == 2 and len(lines) == 1, (at, failed, lines)
        assert str(folder) in lines[0] and os.strerror(errno.ENOSPC) in lines[0], lines
        assert run(folder) == 0
        assert content(folder) == content(whole)


def test_a_disk_that_is_really_full(run, tmp_path, capsys):
    """The cache is sqlite's to write, so its operations are none of those above."""
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    with small_disk(disk, "16k") as resize:
        cache = ["--cache-path", str(disk / "codes.sqlite")]
        assert run(whole) == 0
        (disk / "ballast").write_bytes(bytes(8192))
        assert run(tmp_path / "out", *cache) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert "codes.sqlite: field 'cache_path': cannot be used: " in line and "full" in line
        resize("1m")
        assert run(tmp_path / "out", *cache) == 0
        assert content(tmp_path / "out") == content(whole)
