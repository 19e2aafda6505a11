"""PeRPO on an adapter: what is trained, what the reference is, and that what is left on disk is the same model."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import omni_r1
from omni_r1.options import PerpoOptions
from omni_r1.perpo import run
from omni_r1.perpo.run import perpo
from omni_r1.perpo.trainer import PerpoTrainer
from omni_r1.pesft.packing import PACKED, attention
from omni_r1.pesft.saving import Saver
from perpo_rows import SETTINGS, log_of, write_questions
from tiny import write_checkpoint

IDS = torch.arange(3, 40)[None]
ADAPTER = "adapter_model.safetensors"
HOW = {"lora_rank": 4, "lora_alpha": 6, "learning_rate": 2e-2, "warmup_steps": 0, "save_steps": 1, "max_steps": 3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("lora-rows") / "rows.jsonl")


def options(checkpoint: Path, questions: Path, output: Path, **changed) -> PerpoOptions:
    return PerpoOptions(str(checkpoint), str(output), str(questions), **(SETTINGS | HOW | changed))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.fixture(scope="module")
def trained(checkpoint, questions, tmp_path_factory) -> tuple[Path, PerpoTrainer]:
    """The folder of a run, and its trainer."""
    output, trainers = tmp_path_factory.mktemp("lora-out"), []
    with pytest.MonkeyPatch.context() as patch:
        train = PerpoTrainer.train
        patch.setattr(PerpoTrainer, "train", lambda self, **named: trainers.append(self) or train(self, **named))
        assert perpo(options(checkpoint, questions, output)) == 0
    return output, trainers[0]


def test_the_merged_model_is_base_and_adapter(checkpoint, trained):
    output, trainer = trained
    base, own = logits(omni_r1.load(checkpoint).model), logits(omni_r1.load(output).model)
    adapted = logits(PeftModel.from_pretrained(omni_r1.load(checkpoint).model, output / "adapter"))
    assert (own - base).abs().max() > 0.1
    assert torch.allclose(own, adapted, atol=1e-5)
    assert torch.allclose(own, logits(trainer.rollouts.omni.model), atol=1e-5)


def test_only_layers_move(checkpoint, trained):
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, trained[0]))
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]) == (not name.endswith("_proj.weight")), name


def test_only_the_adapter_is_optimised(trained):
    _, trainer = trained
    names = {id(weight): name for name, weight in trainer.rollouts.omni.model.named_parameters()}
    held = {names[id(weight)] for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert len(held) == 2 * 2 * 7 and all(".lora_" in name for name in held)


def test_the_reference_is_the_model_without_it(checkpoint, trained):
    """No second model is held; the divergence is that of the checkpoint the run began with."""
    output, trainer = trained
    assert trainer.reference is None
    batch = trainer.batches[0]
    base = omni_r1.load(checkpoint).model
    with torch.no_grad(), attention(base, PACKED), attention(trainer.rollouts.omni.model, PACKED):
        wanted = trainer._scores(base, batch).logps
        found = trainer._reference_logps(trainer.rollouts.omni.model, batch)
        own = trainer._scores(trainer.rollouts.omni.model, batch).logps
    assert torch.allclose(found, wanted, atol=1e-5) and torch.equal(batch["reference"], found)
    assert (own - wanted).abs().max() > 0.1
    divergences = [row["kl"] for row in log_of(output)]
    assert all(divergences[1:])


def test_whole_weights_are_those_it_computes_with(trained, tmp_path):
    """As a sampler with weights of its own is given them."""
    _, trainer = trained
    trainer.saver.save_whole(tmp_path / "whole")
    loaded = omni_r1.load(tmp_path / "whole").model
    assert torch.allclose(logits(loaded), logits(trainer.rollouts.omni.model), atol=1e-5)


def test_whole_weights_without_an_adapter(checkpoint, tmp_path):
    omni = omni_r1.load(checkpoint)
    saver = Saver(omni, PerpoOptions("a", "b", "c", 1))
    with omni.model.vq_apart():
        saver.save_whole(tmp_path / "whole")
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "whole"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_resumed_is_uninterrupted(checkpoint, questions, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "out")
    halfway = str(tmp_path / "out" / "steps" / "checkpoint-4")
    assert perpo(options(checkpoint, questions, tmp_path / "out", resume_from_checkpoint=halfway)) == 0
    for name in (f"adapter/{ADAPTER}", "model.safetensors"):
        again, wanted = load_file(tmp_path / "out" / name), load_file(trained[0] / name)
        assert all(torch.equal(again[part], wanted[part]) for part in wanted), name
    assert [row["perpo_step"] for row in log_of(tmp_path / "out")] == [1, 2, 3]


def test_without_a_weight_there_is_no_reference(checkpoint):
    given = {"max_steps": 1, "use_cpu": True}
    for changed in ({"kl_coef": 0.0}, {"lora_rank": 2}):
        assert (
            run.reference_of(PerpoOptions(str(checkpoint), "b", "c", **given, **changed), torch.device("cpu")) is None
        )
    found = run.reference_of(PerpoOptions(str(checkpoint), "b", "c", **given), torch.device("cpu"))
    assert found is not None and not any(weight.requires_grad for weight in found.parameters())
