"""`tokenize` that is killed at any moment, or whose disk is full, ends with the files of a run that nobody touched."""

import errno
import os
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from corpora import own_rows
from faulty import GROWING, MOMENTS, Operations, counting, failing
from fork_server import ForkServer
from omni_r1 import run_record
from omni_r1.cli import main
from omni_r1.data import tokenize
from omni_r1.data.shards import TokenDataset
from omni_r1.errors import InputError
from omni_r1.model import load
from small_disk import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, PER_SHARD, KILLS = 96, 8, 40
OF_A_SHARD = 12  # operations on files, about, of a shard and its line of the log


def content(folder: Path) -> dict[str, bytes]:
    names = {path for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in names if path.name not in UNLIKE}


UNLIKE = {"run.json", "codes.sqlite"}  # when, and in which order


def words(source: Path, checkpoint: Path, folder: Path, *more: str) -> list[str]:
    named = ["--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint)]
    return ["tokenize", *named, "--output-path", str(folder), *more]


def test_killed_at_random(checkpoint, tmp_path):
    source = own_rows(tmp_path / "own", ROWS, pictures=40)
    vocabulary = load(checkpoint).vocabulary
    more = ["--rows-per-shard", str(PER_SHARD), "--batch-size", "4"]
    whole, folder, said = tmp_path / "whole", tmp_path / "killed", tmp_path / "said"
    rng, kills, finished, refused = random.Random(0), 0, 0, 0
    with ForkServer(str(checkpoint)) as server:
        assert server.attempt(words(source, checkpoint, whole, *more), said) == 0, said.read_text()
        assert len(list(whole.glob("shards/*.parquet"))) == 11  # 82 rows
        while kills < KILLS or not finished:
            if rng.random() < 0.5:
                moment = {"kill": (rng.randint(1, 4 * OF_A_SHARD), rng.choice(MOMENTS), None)}
            else:
                moment = {"delay": rng.uniform(0, 0.15)}
            how = {"folder": folder, **moment} if kills < KILLS else {}
            code = server.attempt(words(source, checkpoint, folder, *more), said, **how)
            assert code in (-9, 0), said.read_text()
            kills += code == -9
            if code == 0:
                assert content(folder) == content(whole)
                assert len(TokenDataset(folder, vocabulary)) == 82
                shutil.rmtree(folder)
                finished += 1
            elif not (folder / "manifest.json").exists():
                refused += 1
                with pytest.raises(InputError, match="no manifest.json"):
                    TokenDataset(folder, vocabulary)
    assert kills >= KILLS and finished and refused > KILLS // 2


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch):
    """`run(folder)`: the verb on a few rows, the checkpoint loaded once."""
    omni, source = load(checkpoint), own_rows(tmp_path / "own", 9)
    monkeypatch.setattr(tokenize, "load", lambda *_, **__: omni)
    monkeypatch.setattr(run_record, "_commit", lambda: None)

    def run(folder: Path, *more: str) -> int:
        return main(words(source, checkpoint, folder, "--rows-per-shard", "4", *more))

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
