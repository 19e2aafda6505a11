"""Two processes on the CPU learn what one learns, from the same groups; and resume to the bit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perpo_rows import log_of, words_of, write_questions
from tiny import write_checkpoint
from training_files import differences, rows_of

ROOT = Path(__file__).parents[2]
CLOSE = 1e-5
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Two updates a step of two groups of four each, after up to two rounds of three questions.
SHAPE: dict[str, object] = {"max_steps": 3, "gen_batch_size": 3, "warmup_steps": 0, "learning_rate": 1e-3}
SHAPE |= {"save_steps": 1, "sample_steps": 1, "max_new_tokens": 24, "group_size": 2, "max_gen_batches": 3}


class Bed:
    """A checkpoint and questions; `train` is a run on them in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.rows = write_checkpoint(folder / "model"), write_questions(folder / "rows.jsonl")

    def train(self, output: Path, processes: int, **changed: object) -> None:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        words = words_of(self.checkpoint, self.rows, output, **{**SHAPE, **changed})
        command = [sys.executable, *(launch if processes > 1 else []), "-m", "omni_r1.cli", *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def bed(tmp_path_factory) -> Bed:
    return Bed(tmp_path_factory.mktemp("reinforced"))


@pytest.fixture(scope="module")
def together(bed, tmp_path_factory) -> Path:
    """The folder of a run of two processes with a row each at a time: two micro-batches an update."""
    output = tmp_path_factory.mktemp("together")
    bed.train(output, 2, per_device_train_batch_size=1)
    return output


@pytest.fixture(scope="module")
def alone(bed, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("alone")
    bed.train(output, 1, per_device_train_batch_size=4)
    return output


def test_the_same_answers_and_rewards(alone, together):
    for step in ("step-000001", "step-000002", "step-000003"):
        lists = []
        for output in (alone, together):
            lines = (output / "samples" / step / "results.jsonl").read_text().splitlines()
            records = [json.loads(line) for line in lines]
            lists.append([(one["id"], one["sample"], one["seed"], one["reason"], one["segments"]) for one in records])
        assert lists[0] == lists[1] and lists[0]


def test_the_same_figures_and_weights(alone, together):
    rows = rows_of(alone / "log.jsonl"), rows_of(together / "log.jsonl")
    assert len(rows[0]) == len(rows[1]) == 4
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - {"crc"}:
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=CLOSE), name
    assert {row["groups"] for row in log_of(alone)} - {3.0}  # in some step more questions were drawn
    before = load_file(alone / "model.safetensors")
    for name, tensor in load_file(together / "model.safetensors").items():
        assert torch.allclose(tensor, before[name], rtol=0, atol=CLOSE), name


def test_from_the_middle_on_to_the_bit(bed, together, tmp_path):
    """Both processes must know how many questions were drawn."""
    steps = tmp_path / "again" / "steps"
    shutil.copytree(together / "steps" / "checkpoint-4", steps / "checkpoint-4")
    for name in ("run.json", "log.jsonl"):
        shutil.copy(together / name, tmp_path / "again")
    for step in ("step-000001", "step-000002"):
        shutil.copytree(together / "samples" / step, tmp_path / "again" / "samples" / step)
    bed.train(tmp_path / "again", 2, per_device_train_batch_size=1, resume_from_checkpoint="last")
    assert differences(together, tmp_path / "again") == []


def test_zero_2(bed, alone, tmp_path):
    """The same update, gradients and optimiser spread; from a checkpoint on to the bit."""
    pytest.importorskip("deepspeed")
    zero = {"deepspeed_config_json": ROOT / "configs" / "engines" / "zero2.json", "per_device_train_batch_size": 1}
    bed.train(tmp_path / "out", 2, **zero)
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.allclose(tensor, load_file(alone / "model.safetensors")[name], rtol=0, atol=CLOSE), name
    steps = tmp_path / "again" / "steps"
    shutil.copytree(tmp_path / "out" / "steps" / "checkpoint-4", steps / "checkpoint-4")
    for name in ("run.json", "log.jsonl"):
        shutil.copy(tmp_path / "out" / name, tmp_path / "again")
    bed.train(tmp_path / "again", 2, **zero, resume_from_checkpoint="last")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(one, again[name]) for name, one in load_file(tmp_path / "out/model.safetensors").items())


def test_zero_3_is_refused(bed, tmp_path):
    pytest.importorskip("deepspeed")
    with pytest.raises(AssertionError, match="ZeRO 3"):
        zero = {"deepspeed_config_json": ROOT / "configs" / "engines" / "zero3.json"}
        bed.train(tmp_path / "out", 2, per_device_train_batch_size=1, **zero)
