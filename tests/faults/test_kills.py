"""A run of 100 rows that is killed a hundred times ends as one that nobody touched. Twice: greedy and sampled."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faulty import MOMENTS
from fork_server import ForkServer
from omni_r1.files import AppendLog
from omni_r1.options import SHIPPED
from omni_r1.run_record import ANSWERS
from run_files import Inspector, differences, write_questions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # under three minutes on two cores with nothing else to do

ROWS, KILLS, BATCH = 100, 100, 8
BAD = frozenset({7, 50})  # rows whose picture is missing: they fail, and nothing else does
COMMON = ["--model-path", SHIPPED, "--max-new-tokens", "84", "--batch-size", str(BATCH)]  # a drawing has 64 codes
HOW = {"greedy": (1, []), "sampled": (2, ["--do-sample", "--seed", "7", "--num-samples", "2"])}
STARTING, A_ROW, ENDING = 16, 26, 16  # operations on files: of opening a run folder, a row with a drawing, the end


def killed_run(base: Path, source: Path, how: str) -> dict[str, float]:
    """Kills a run at seeded moments, half of them at an operation on a file and half after some time.

    An attempt may get far where rows are behind the kills, and not where they are ahead, so that the kills come all
    along the run. Those that are left after the last row hit the start of a run and its end.
    """
    samples, more = HOW[how]
    words = ["generate", "--input", str(source), *COMMON, *more, "--output-dir"]
    answers, said, rng = ROWS * samples, base / "said", random.Random(how)
    whole, folder = base / "whole" / source.stem, base / "killed" / source.stem
    kills = done = late = 0
    reach = 0.3  # seconds until the latest kill by time; the machine decides how far an attempt gets in them
    with ForkServer(SHIPPED) as server:
        assert server.attempt(["--version"], said) == 0  # the server has started
        begun = time.monotonic()
        assert server.attempt([*words, str(whole.parent)], said) == 2, said.read_text()
        assert Inspector(whole).visit() == answers
        inspector, code = Inspector(folder), -9
        while kills < KILLS or code == -9:
            ahead = done * KILLS > answers * kills
            reach *= 0.8 if ahead else 1.2
            share = 0 if ahead else (answers - done) / max(1, KILLS - kills)  # rows of an attempt, about
            last = STARTING + max(A_ROW, ENDING, round(3 * share * A_ROW))
            kind = rng.random()
            if kind < 0.1:  # in a line of the log
                moment = {"kill": (rng.randint(1, 1 + round(2 * share)), "half", ANSWERS)}
            elif kind < 0.5:
                moment = {"kill": (rng.randint(1, last), rng.choice(MOMENTS), None)}
            else:
                moment = {"delay": rng.uniform(0, reach), "kill": (last, "before", None)}
            moment["folder"] = folder
            code = server.attempt([*words, str(folder.parent)], said, **moment if kills < KILLS else {})
            assert code in (-9, 2), said.read_text()  # 2: at the end the bad rows are told
            kills += code == -9
            late += code == -9 and done == answers
            done = inspector.visit() if folder.exists() else 0
    assert not list(folder.rglob(".*"))
    with AppendLog(folder / ANSWERS) as log:
        keys = [(row["row"], row["sample"]) for row in log.rows]
        assert keys == [(row, sample) for row in range(1, ROWS + 1) for sample in range(samples)]
        assert {row["row"] for row in log.rows if row["status"] == "error"} == BAD
    return {
        "kills": kills,
        "of them after the last row": late,
        "images": len(list(whole.rglob("image_*.png"))),
        "leftovers": inspector.leftovers,
        "torn": inspector.torn,
        "last digits": differences(whole, folder),
        "seconds": round(time.monotonic() - begun),
    }


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict[str, dict[str, float]]:
    """Both kinds at the same time, each with a process of its own."""
    base = tmp_path_factory.mktemp("kills")
    source = write_questions(base, ROWS, BAD)
    for how in HOW:
        (base / how).mkdir()
    with ThreadPoolExecutor() as pool:
        runs = {how: pool.submit(killed_run, base / how, source, how) for how in HOW}
        return {how: run.result() for how, run in runs.items()}


@pytest.mark.parametrize("how", HOW)
def test_killed_at_random(figures, how):
    print(how, figures[how])
    assert figures[how]["kills"] == KILLS
    assert figures[how]["images"] >= ROWS // 2  # it does draw
    assert figures[how]["leftovers"] and figures[how]["torn"]  # kills did come in the middle of writes
    assert figures[how]["last digits"] <= 0.1 * ROWS * HOW[how][0]
