"""A bench of 200 questions that is killed a hundred times leaves the table of one that nobody touched."""

import json
import random
from pathlib import Path

import pytest

from faulty import MOMENTS
from fork_server import ForkServer
from omni_r1.files import AppendLog
from omni_r1.options import SHIPPED
from omni_r1.run_record import RESULTS, SUMMARY
from omni_r1.show.table import table
from run_files import same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # six minutes beside two trainings on two cores

ROWS, KILLS = 200, 100
WORDS = ["bench", "--model-path", SHIPPED, "--limit", str(ROWS), "--batch-size", "4"]
WORDS += [
    "--mode",
    "text-only",
    "--max-new-tokens",
    "16",
]  # it is the writing that is killed
A_ROW, ENDING = 34, 30  # operations on files of a row with its pictures, and of opening and ending a run
TIMING = {"tokens_per_second", "seconds"}


def figures(folder: Path) -> tuple[str, str]:
    """The table, and the summary it is made of but for how fast the last part was."""
    summary = json.loads((folder / SUMMARY).read_text())
    kept = {name: figure for name, figure in summary.items() if name not in TIMING}
    return table(summary), json.dumps(kept, indent=1)


def rows_of(folder: Path) -> list[dict]:
    with AppendLog(folder / RESULTS) as log:
        return log.rows


def test_killed_a_hundred_times(tmp_path):
    whole, killed, said, rng = tmp_path / "whole", tmp_path / "killed", tmp_path / "said", random.Random(3)
    with ForkServer(SHIPPED) as server:
        assert server.attempt([*WORDS, "--output-dir", str(whole)], said) == 0, said.read_text()
        kills, code, done = 0, -9, 0
        while kills < KILLS or code == -9:
            share = max(1, round(2 * (ROWS - done) / max(1, KILLS - kills)))  # rows of an attempt, about
            kind = rng.random()
            if kind < 0.1:  # in a line of the log
                kill = rng.randint(1, share), "half", RESULTS
            else:
                kill = ENDING // 2 + rng.randint(1, share * A_ROW), rng.choice(MOMENTS), None
            last = kills == KILLS
            code = server.attempt(
                [*WORDS, "--output-dir", str(killed)], said, folder=killed, kill=None if last else kill
            )
            assert code in (-9, 0), said.read_text()
            kills += code == -9
            done = (killed / RESULTS).read_bytes().count(b"\n") if (killed / RESULTS).exists() else 0
    assert figures(killed) == figures(whole)
    assert not list(killed.rglob(".*"))
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (whole, killed)]
    assert names[0] == names[1]
    ours, theirs = rows_of(killed), rows_of(whole)
    assert [(row["row"], row["sample"]) for row in ours] == [(row, 0) for row in range(1, ROWS + 1)]
    changed = sum(same([*pair]) for pair in zip(ours, theirs, strict=True))  # log-probabilities, in the last digit
    print(f"{kills} kills, {changed} log-probabilities differ in their last digit")
