"""Training that is killed a hundred times ends as training that nobody touched: bit by bit, and in its log.

The runs end inside an epoch and log less often than they save, so that sums have to outlive a kill as well.
"""

from pathlib import Path
from typing import Any

import pytest

from tiny import write_checkpoint
from training_files import write_rows
from training_kills import killed_run
from training_server import TrainingServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # about a minute on one core with nothing else to do

ROWS, STEPS, KILLS = 5, 11, 100
HOW = {
    "each": ["--save-steps", "1", "--logging-steps", "2"],
    "each epoch": ["--save-steps", "3", "--logging-steps", "2", "--learning-rate", "2e-2", "--ce", "grammar"],
}
COMMON = ["--learning-rate", "1e-2", "--gradient-accumulation-steps", "2", "--num-train-epochs", "3.5", "--use-cpu"]
COMMON += ["--resume-from-checkpoint", "last"]
EPOCH = 3  # steps
SAVED = ["model.safetensors", "perception.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "sums_0"]
SAVED += ["trainer_state", "manifest", "config.json"]
ENDING = ["model.safetensors", "perception.safetensors", "config.json", "log.jsonl"]
SAVING = {"model.safetensors": "weights", "optimizer.pt": "optimiser", "manifest.json": "manifest"}
SAVING |= {"log.jsonl": "log", "perception.safetensors": "projection", "run.json": "run.json"}


def kind(operation: str, inside: Path) -> str:
    if "old-" in str(inside):
        return "old checkpoint"
    what = next((word for name, word in SAVING.items() if name in inside.name), "other files")
    if inside.parts[:2] == ("steps", ".unfinished"):
        moving = operation == "replace" and len(inside.parts) == 3
        return "step: " + ("moving it" if moving else what)
    if inside.parts[:1] == ("steps",):
        return "step: removing it" if operation in ("replace", "unlink", "rmdir") else "step: folder"
    return what if what in ("log", "run.json") else "end: " + what if len(inside.parts) else "output folder"


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict[str, dict[str, Any]]:
    base = tmp_path_factory.mktemp("training")
    model, rows = write_checkpoint(base / "model"), write_rows(base / "rows.jsonl", ROWS)
    for how in HOW:
        (base / how).mkdir()
    with TrainingServer(model, rows, base / "warm") as server:
        return {
            how: killed_run(
                base / how,
                server,
                ["pesft", "--model-path", str(model), "--train-data", str(rows), *COMMON, *HOW[how]],
                kind,
                how,
                steps=STEPS,
                kills=KILLS,
                saved=SAVED,
                ending=ENDING,
            )
            for how in HOW
        }


@pytest.mark.parametrize("how", HOW)
def test_killed_at_random(figures, how):
    print(how, figures[how])
    assert figures[how]["kills"] == KILLS
    assert [*figures[how]["resumed from step"]] == [*range(0, STEPS, 1 if how == "each" else EPOCH), STEPS]


def test_kills_hit_everything(figures):
    hit = {place for how in HOW for place in figures[how]["hit"]}
    for what in ("time: ", "computing", "step: weights", "optimiser", "manifest", "old checkpoint", "log", "end: "):
        assert any(what in place for place in hit), (what, hit)
