"""`bootstrap` that is killed at any moment ends with each row once, and the drawings of a run that nobody touched."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from faulty import MOMENTS
from fork_server import ForkServer
from omni_r1.data.shards import TokenDataset
from omni_r1.errors import InputError
from omni_r1.model import load
from zero_rows import chains, drawings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, CHUNK, KILLS = 24, 4, 100
OF_A_CHUNK = 18  # operations on files, about, of a chunk and its line of the log
UNLIKE = {"run.json", "codes.sqlite"}  # when, and in which order


def content(folder: Path) -> dict[str, bytes]:
    names = {path for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in names if path.name not in UNLIKE}


def test_killed_at_random(checkpoint, tmp_path):
    source = chains(tmp_path / "in", ROWS)
    vocabulary = load(checkpoint).vocabulary
    whole, folder, said = tmp_path / "whole", tmp_path / "killed", tmp_path / "said"
    named = ["--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint), "--chunk-size", str(CHUNK)]
    words = ["bootstrap", *named, "--do-sample", "--candidates", "2", "--output-path"]
    rng, kills, finished, refused = random.Random(0), 0, 0, 0
    with ForkServer(str(checkpoint)) as server:
        assert server.attempt([*words, str(whole)], said) == 0, said.read_text()
        expected = {f"row {number}" for number in range(ROWS) if number % 7}
        while kills < KILLS or not finished:
            if rng.random() < 0.7:
                moment = {"kill": (rng.randint(1, 2 * OF_A_CHUNK), rng.choice(MOMENTS), None)}
            else:
                moment = {"delay": rng.uniform(0, 0.3)}
            how = {"folder": folder, **moment} if kills < KILLS else {}
            code = server.attempt([*words, str(folder)], said, **how)
            assert code in (-9, 0), said.read_text()
            kills += code == -9
            if code == 0:
                assert content(folder) == content(whole)
                rows = TokenDataset(folder, vocabulary)
                ids = Counter(
                    row["name"].rpartition("(")[2].rstrip(")") for row in map(rows.__getitem__, range(len(rows)))
                )
                assert ids == Counter(expected)
                assert {each["id"] for each in drawings(folder)} == expected
                shutil.rmtree(folder)
                finished += 1
            elif not (folder / "manifest.json").exists():
                refused += 1
                with pytest.raises(InputError, match="no manifest.json"):
                    TokenDataset(folder, vocabulary)
    assert kills >= KILLS and finished and refused > KILLS // 2
