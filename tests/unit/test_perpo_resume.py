"""A PeRPO run goes on with what decides its numbers, or not at all."""

import shutil
from pathlib import Path

import pytest

from omni_r1.errors import InputError
from omni_r1.options import PerpoOptions
from omni_r1.perpo.run import perpo
from perpo_rows import SETTINGS, log_of, write_questions
from tiny import write_checkpoint
from training_files import differences

HOW = {"save_steps": 1, "train_batch_size": 2, "mini_batch_size": 1, "gen_batch_size": 2, "max_steps": 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("resume-rows") / "rows.jsonl")


def options(checkpoint: Path, questions: Path, output: Path, **changed) -> PerpoOptions:
    return PerpoOptions(str(checkpoint), str(output), str(questions), **(SETTINGS | HOW | changed))


@pytest.fixture(scope="module")
def interrupted(checkpoint, questions, tmp_path_factory) -> Path:
    """The folder of a run of two steps."""
    output = tmp_path_factory.mktemp("resume-out")
    perpo(options(checkpoint, questions, output))
    return output


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 7},
        {"group_size": 8},
        {"gen_batch_size": 3},
        {"max_gen_batches": 3},
        {"filter_metric": "none"},
        {"per_device_train_batch_size": 2},
        {"mini_batch_size": 2},
        {"learning_rate": 1e-2},
        {"lr_scheduler_type": "cosine"},
        {"kl_coef": 0.0},
        {"image_weight": 0.5},
        {"top_p": 0.9},
        {"max_new_tokens": 33},
        {"perception_weight": 0.04},
        {"profile": "original"},
        {"lora_rank": 2},
        {"max_steps": 1},
    ],
)
def test_other_options_are_refused(checkpoint, questions, interrupted, changed):
    before = {file: file.stat().st_mtime_ns for file in interrupted.rglob("*")}
    with pytest.raises(InputError, match=f"run.json: field '{[*changed][0]}': was .* in the run that is to go on"):
        perpo(options(checkpoint, questions, interrupted, resume_from_checkpoint="last", **changed))
    assert {file: file.stat().st_mtime_ns for file in interrupted.rglob("*")} == before


def test_where_the_rate_falls_a_run_keeps_its_length(checkpoint, questions, tmp_path):
    falling = {"lr_scheduler_type": "linear", "sample_steps": 0, "warmup_steps": 0}
    perpo(options(checkpoint, questions, tmp_path / "out", **falling))
    assert [row["learning_rate"] for row in log_of(tmp_path / "out")] == pytest.approx([7.5e-4, 2.5e-4])
    with pytest.raises(InputError, match="field 'max_steps': was 2 in the run that is to go on, not 4"):
        perpo(options(checkpoint, questions, tmp_path / "out", max_steps=4, resume_from_checkpoint="last", **falling))


def test_other_questions_are_refused(checkpoint, questions, interrupted, tmp_path):
    other = write_questions(tmp_path / "rows.jsonl", 11)
    with pytest.raises(InputError, match="train_data.*other rows"):
        perpo(options(checkpoint, other, interrupted, resume_from_checkpoint="last"))


def test_a_run_may_grow(checkpoint, questions, interrupted, tmp_path):
    """Prolonged, it is the run that was as long from the beginning."""
    perpo(options(checkpoint, questions, tmp_path / "long", max_steps=4, sample_steps=0))
    shutil.copytree(interrupted, tmp_path / "grown", ignore=shutil.ignore_patterns("samples"))
    more = {"max_steps": 4, "sample_steps": 0, "gradient_checkpointing": "none", "save_steps": 2}
    perpo(options(checkpoint, questions, tmp_path / "grown", resume_from_checkpoint="last", **more))
    assert [row["perpo_step"] for row in log_of(tmp_path / "grown")] == [1, 2, 3, 4]
    differing = set(differences(tmp_path / "long", tmp_path / "grown"))
    assert {name for name in differing if "steps/" not in name} == set()  # the one before the last is of another step
