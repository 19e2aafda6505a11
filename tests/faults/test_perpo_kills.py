"""Reinforcement that is killed fifty times ends as one that nobody touched: bit by bit, samples and log included.

Some steps need more than one round of questions, so that a run that goes on must know how many were drawn.
"""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from faulty import MOMENTS
from omni_r1.pesft.checkpoints import STAGE, step_of
from perpo_rows import log_of, words_of, write_questions
from tiny import write_checkpoint
from training_files import differences, whole_checkpoints
from training_server import Ended, TrainingServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTIONS, STEPS, KILLS = 5, 5, 50
UPDATES = 2  # of a step
SHAPE: dict[str, object] = {"train_batch_size": 2, "mini_batch_size": 1, "gen_batch_size": 2, "max_gen_batches": 3}
SHAPE |= {"group_size": 2, "per_device_train_batch_size": 2, "max_new_tokens": 20, "learning_rate": 2e-3}
SHAPE |= {"max_steps": STEPS, "save_steps": 1, "sample_steps": 2, "resume_from_checkpoint": "last"}
LAST = 1.15  # share of the kills that come before the last step
FILES = ["model.safetensors", "optimizer.pt", "rng_state.pth", "sums_0", "manifest", "old-checkpoint", "log.jsonl"]
FILES += ["results.jsonl", "summary.json", "images/"]


def kind(ended: Ended, output: Path) -> str:
    """Where a kill hit."""
    if ended.doing is None:
        return "computing"
    path = Path(ended.doing[1])
    if "old-" in str(path):
        return "old checkpoint"
    inside = path.relative_to(output).parts
    if inside[:1] == ("steps",):
        return f"step: {path.suffix or 'folder'}"
    return inside[0].strip(".").partition(".")[0] if inside else "output folder"


def killed_run(base: Path, server: TrainingServer, model: Path, rows: Path) -> dict[str, Any]:
    """Kills a run at seeded moments: after some time, at any operation on a file, or at those on a certain file."""
    said, rng = base / "said", random.Random(0)
    untouched, output = base / "untouched", base / "killed"
    words, begun = words_of(model, rows, untouched, **SHAPE), time.monotonic()
    before = server.attempt(words, said, folder=untouched)
    assert before.code == 0, said.read_text()
    assert differences(untouched, untouched) == []
    ending = server.attempt(words, said, folder=untouched)  # all but the end is there
    assert ending.code == 0, said.read_text()
    words = words_of(model, rows, output, **SHAPE)
    hit: Counter[str] = Counter()
    resumed: Counter[int] = Counter()
    kills = done = aims = 0
    code, reach = -9, 0.6  # seconds until the latest kill by time; the machine decides how far
    while kills < KILLS or code == -9:
        share = min(2.0, max(0.0, LAST * STEPS * (kills + 1) / KILLS - done))  # steps that the attempt may make
        order: dict[str, Any] = {"folder": output}
        dice = rng.random()
        if kills < KILLS and dice < 0.35:
            reach = min(1.5, max(0.2, reach * (0.8 if share <= 0 and done < STEPS else 1.2)))
            order["delay"] = rng.uniform(0, reach)
        elif kills < KILLS and dice < 0.65:
            order["aim"] = (FILES[aims % len(FILES)], rng.choice(MOMENTS))  # in turn: each is hit on any machine
            aims += 1
        elif kills < KILLS:
            most = ending.operations if done == STEPS else 40 + round(share * before.operations / STEPS)
            order["kill"] = (rng.randint(1, most), rng.choice(MOMENTS))
        ended = server.attempt(words, said, **order)
        code = ended.code
        assert code in (-9, 0), said.read_text()
        resumed[done] += 1
        if code == -9:
            kills += 1
            hit[("by time: " if "delay" in order else "") + kind(ended, output)] += 1
        found = whole_checkpoints(output)
        assert found or not done, "no checkpoint is left"
        now = step_of(found[-1]) // UPDATES if found else 0
        assert now >= done
        done = now
    assert done == STEPS and not [path for path in output.rglob(".*") if path.name != STAGE or any(path.iterdir())]
    assert differences(untouched, output) == []
    return {
        "kills": kills,
        "resumed from step": dict(sorted(resumed.items())),
        "hit": dict(hit.most_common()),
        "groups of each step": [row["groups"] for row in log_of(output)],
        "seconds": round(time.monotonic() - begun),
    }


@pytest.fixture(scope="module")
def bed(tmp_path_factory) -> tuple[Path, Path, Path]:
    base = tmp_path_factory.mktemp("reinforcing")
    return base, write_checkpoint(base / "model"), write_questions(base / "rows.jsonl", QUESTIONS)


@pytest.fixture(scope="module")
def figures(bed) -> dict[str, Any]:
    base, model, rows = bed
    warm = words_of(model, rows, base / "warm", **{**SHAPE, "max_steps": 1, "resume_from_checkpoint": None})
    with TrainingServer(model, rows, base / "warm", *warm[:1], *warm[7:]) as server:
        return killed_run(base, server, model, rows)


def test_killed_at_random(figures):
    print(figures)
    assert figures["kills"] == KILLS and len(figures["resumed from step"]) > 3
    assert any("time: " in place for place in figures["hit"]) and "computing" in str(figures["hit"])


def test_questions_were_drawn_again_in_some_steps(figures):
    groups = figures["groups of each step"]
    assert len(groups) == STEPS and min(groups) < max(groups)
