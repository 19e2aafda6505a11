"""`bootstrap` that is killed at any moment ends with each row once, and the drawings of a run that nobody touched."""

from collections import Counter
from pathlib import Path

import pytest

from fork_server import ForkServer
from omni_r1.data.shards import TokenDataset
from omni_r1.model import load
from shard_folders import killed_at_random
from zero_rows import chains, drawings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, CHUNK, KILLS = 24, 4, 100
OF_A_CHUNK = 18  # operations on files, about, of a chunk and its line of the log


def test_killed_at_random(checkpoint, tmp_path):
    source = chains(tmp_path / "in", ROWS)
    whole, said = tmp_path / "whole", tmp_path / "said"
    named = ["--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint), "--chunk-size", str(CHUNK)]
    words = ["bootstrap", *named, "--do-sample", "--candidates", "2", "--output-path"]
    expected = {f"row {number}" for number in range(ROWS) if number % 7}

    def check(rows: TokenDataset, folder: Path) -> None:
        ids = Counter(row["name"].rpartition("(")[2].rstrip(")") for row in map(rows.__getitem__, range(len(rows))))
        assert ids == Counter(expected)
        assert {each["id"] for each in drawings(folder)} == expected

    with ForkServer(str(checkpoint)) as server:
        assert server.attempt([*words, str(whole)], said) == 0, said.read_text()
        shape = {"by_operation": 0.7, "operations": 2 * OF_A_CHUNK, "delay": 0.3}
        killed_at_random(server, words, whole, load(checkpoint).vocabulary, check, kills=KILLS, **shape)
