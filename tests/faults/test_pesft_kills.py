"""Training that is killed a hundred times ends as training that nobody touched: bit by bit, and in its log.

The runs end inside an epoch and log less often than they save, so that sums have to outlive a kill as well.
"""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from faulty import MOMENTS
from omni_r1.pesft.checkpoints import STAGE, step_of
from tiny import write_checkpoint
from training_files import differences, whole_checkpoints, write_rows
from training_server import Ended, TrainingServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # about a minute on one core with nothing else to do

ROWS, STEPS, KILLS = 5, 11, 100
HOW = {
    "each": ["--save-steps", "1", "--logging-steps", "2"],
    "each epoch": ["--save-steps", "3", "--logging-steps", "2", "--learning-rate", "2e-2", "--ce", "grammar"],
}
COMMON = ["--learning-rate", "1e-2", "--gradient-accumulation-steps", "2", "--num-train-epochs", "3.5", "--use-cpu"]
COMMON += ["--resume-from-checkpoint", "last"]
LAST = 1.15  # share of the kills that come before the last step
FILES = ["model.safetensors", "perception.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "sums_0"]
AT_THE_END = [*FILES[:2], "config.json", "log.jsonl"]
FILES += ["trainer_state", "manifest", "config.json"]  # of a checkpoint in the making
SAVING = {"model.safetensors": "weights", "optimizer.pt": "optimiser", "manifest.json": "manifest"}
SAVING |= {"log.jsonl": "log", "perception.safetensors": "projection", "run.json": "run.json"}


def kind(ended: Ended, output: Path) -> str:
    """Where a kill hit."""
    if ended.doing is None:
        return "computing"
    operation, path = ended.doing
    inside = Path(path).relative_to(output)
    if "old-" in path:
        return "old checkpoint"
    what = next((word for name, word in SAVING.items() if name in inside.name), "other files")
    if inside.parts[:2] == ("steps", ".unfinished"):
        moving = operation == "replace" and len(inside.parts) == 3
        return "step: " + ("moving it" if moving else what)
    if inside.parts[:1] == ("steps",):
        return "step: removing it" if operation in ("replace", "unlink", "rmdir") else "step: folder"
    return what if what in ("log", "run.json") else "end: " + what if len(inside.parts) else "output folder"


def killed_run(base: Path, server: TrainingServer, how: str, model: Path, rows: Path) -> dict[str, Any]:
    """Kills a run at seeded moments: after some time, at any operation on a file, or at those on a certain file.

    An attempt may get far where steps are behind the kills, and not where they are ahead, so that the kills come all
    along the run, and those that are left after the last step hit the end.
    """
    words = ["pesft", "--model-path", str(model), "--train-data", str(rows), *COMMON, *HOW[how], "--output-path"]
    said, rng = base / "said", random.Random(how)
    untouched, output = base / "untouched", base / "killed"
    begun = time.monotonic()
    before = server.attempt([*words, str(untouched)], said, folder=untouched)
    assert before.code == 0, said.read_text()
    operations, reach = before.operations, 0.3  # seconds until the latest kill by time; the machine decides how far
    assert differences(untouched, untouched) == []
    ending = server.attempt([*words, str(untouched)], said, folder=untouched)  # all but the end is there
    assert ending.code == 0
    kills = done = at_borders = 0
    hit: Counter[str] = Counter()
    resumed: Counter[int] = Counter()
    code, found = -9, []
    while kills < KILLS or code == -9:
        share = min(2.0, max(0.0, LAST * STEPS * (kills + 1) / KILLS - done))  # steps that the attempt may make
        order: dict = {"folder": output}
        dice = rng.random()
        if kills < len(FILES):  # each is hit, however far a fast machine gets in a moment
            order["aim"] = (FILES[kills], rng.choice(MOMENTS))
        elif kills < KILLS and dice < 0.35:
            reach = max(0.1, reach * (0.8 if share <= 0 and done < STEPS else 1.2))
            reach = min(reach, 0.4) if done == STEPS else reach
            order["delay"] = rng.uniform(0, reach)
        elif kills < KILLS and dice < 0.6 and share > 0 and len(found) == 2 and done < STEPS:
            order["aim"] = ("old-checkpoint", rng.choice(MOMENTS))
        elif kills < KILLS and dice < 0.75:
            order["aim"] = (rng.choice(FILES if done < STEPS else AT_THE_END), rng.choice(MOMENTS))
        elif kills < KILLS:
            most = ending.operations if done == STEPS else 40 + round(share * operations / STEPS)
            order["kill"] = (rng.randint(1, most), rng.choice(MOMENTS))
        ended = server.attempt([*words, str(output)], said, **order)
        code = ended.code
        assert code in (-9, 0), said.read_text()
        resumed[done] += 1
        if code == -9:
            kills += 1
            hit[("by time: " if "delay" in order else "") + kind(ended, output)] += 1
        found = whole_checkpoints(output)
        assert found or not done, "no checkpoint is left"
        now = step_of(found[-1]) if found else 0
        assert now >= done
        at_borders += code == -9 and now % 3 == 0 and 0 < now
        done = now
    assert done == STEPS and not [path for path in output.rglob(".*") if path.name != STAGE or any(path.iterdir())]
    assert differences(untouched, output) == []
    return {
        "kills": kills,
        "resumed from step": dict(sorted(resumed.items())),
        "of them at an epoch's border": at_borders,
        "hit": dict(hit.most_common()),
        "seconds": round(time.monotonic() - begun),
    }


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict[str, dict[str, Any]]:
    base = tmp_path_factory.mktemp("training")
    model, rows = write_checkpoint(base / "model"), write_rows(base / "rows.jsonl", ROWS)
    for how in HOW:
        (base / how).mkdir()
    with TrainingServer(model, rows, base / "warm") as server:
        return {how: killed_run(base / how, server, how, model, rows) for how in HOW}


@pytest.mark.parametrize("how", HOW)
def test_killed_at_random(figures, how):
    print(how, figures[how])
    assert figures[how]["kills"] == KILLS
    assert len(figures[how]["resumed from step"]) > 2


def test_kills_hit_everything(figures):
    hit = {place for how in HOW for place in figures[how]["hit"]}
    for what in ("time: ", "computing", "step: weights", "optimiser", "manifest", "old checkpoint", "log", "end: "):
        assert any(what in place for place in hit), (what, hit)
    assert any(figures[how]["of them at an epoch's border"] for how in HOW)
