"""Reinforcement that is killed fifty times ends as one that nobody touched: bit by bit, samples and log included.

Some steps need more than one round of questions, so that a run that goes on must know how many were drawn.
"""

from pathlib import Path
from typing import Any

import pytest

from perpo_rows import log_of, words_of, write_questions
from tiny import write_checkpoint
from training_kills import killed_run
from training_server import TrainingServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTIONS, STEPS, KILLS = 5, 5, 50
UPDATES = 2  # of a step
SHAPE: dict[str, object] = {"train_batch_size": 2, "mini_batch_size": 1, "gen_batch_size": 2, "max_gen_batches": 3}
SHAPE |= {"group_size": 2, "per_device_train_batch_size": 2, "max_new_tokens": 20, "learning_rate": 2e-3}
SHAPE |= {"max_steps": STEPS, "save_steps": 1, "sample_steps": 2, "resume_from_checkpoint": "last"}
SAVED = ["model.safetensors", "optimizer.pt", "rng_state.pth", "sums_0", "manifest"]
ENDING = ["model.safetensors", "log.jsonl", "results.jsonl", "summary.json", "images/"]


def kind(operation: str, inside: Path) -> str:
    if "old-" in str(inside):
        return "old checkpoint"
    if inside.parts[:1] == ("steps",):
        return f"step: {inside.suffix or 'folder'}"
    return inside.parts[0].strip(".").partition(".")[0] if inside.parts else "output folder"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("reinforcing")


@pytest.fixture(scope="module")
def figures(base) -> dict[str, Any]:
    model, rows = write_checkpoint(base / "model"), write_questions(base / "rows.jsonl", QUESTIONS)
    warm = words_of(model, rows, base / "warm", **{**SHAPE, "max_steps": 1, "resume_from_checkpoint": None})
    with TrainingServer(model, rows, base / "warm", *warm[:1], *warm[7:]) as server:
        return killed_run(
            base,
            server,
            words_of(model, rows, None, **SHAPE),
            kind,
            0,
            steps=STEPS,
            kills=KILLS,
            updates=UPDATES,
            saved=SAVED,
            ending=ENDING,
        )


def test_killed_at_random(figures):
    print(figures)
    assert figures["kills"] == KILLS and len(figures["resumed from step"]) == STEPS + 1
    assert any("time: " in place for place in figures["hit"]) and "computing" in str(figures["hit"])


def test_questions_were_drawn_again_in_some_steps(base, figures):
    groups = [row["groups"] for row in log_of(base / "killed")]
    assert len(groups) == STEPS and min(groups) < max(groups)
