"""Low-rank adapters: what is trained, what is left on disk, and that all of it is the same model."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import omni_r1
from omni_r1.errors import InputError
from omni_r1.options import PesftOptions
from omni_r1.pesft.run import pesft
from omni_r1.pesft.trainer import PesftTrainer
from pesft_rows import write_rows
from tiny import write_checkpoint

IDS = torch.arange(3, 40)[None]
ADAPTER = "adapter_model.safetensors"
LAYER = "model.layers.1.mlp.down_proj.weight"
installed = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes, of the extra lowmem, is not there")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("lora-rows") / "rows.jsonl")


def options(checkpoint: Path, data: Path, output: Path, **changed) -> PesftOptions:
    values = {"learning_rate": 1e-2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4}
    return PesftOptions(str(checkpoint), str(output), train_data=str(data), **(values | {"lora_rank": 3} | changed))


@pytest.fixture(scope="module")
def trained(checkpoint, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("lora-out")
    pesft(options(checkpoint, data, output, save_steps=2, logging_steps=1, lora_alpha=5))
    return output


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def adapted(checkpoint: Path, folder: Path, **how) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(omni_r1.load(checkpoint, **how).model, folder))


def saved(folder: Path, adapter: str = "adapter") -> dict[str, torch.Tensor]:
    return load_file(folder / adapter / ADAPTER) | load_file(folder / adapter / "perception.safetensors")


def test_the_merged_model_is_base_and_adapter(checkpoint, trained):
    merged = omni_r1.load(trained)
    base, own = logits(omni_r1.load(checkpoint).model), logits(merged.model)
    with_adapter = adapted(checkpoint, trained / "adapter")
    assert (own - base).abs().max() > 0.1
    assert torch.allclose(own, with_adapter, atol=1e-5)
    assert load_file(trained / "perception.safetensors").keys() == {"weight", "bias"}
    told = json.loads((trained / "adapter" / "adapter_config.json").read_text())
    assert (told["r"], told["lora_alpha"], told["base_model_name_or_path"]) == (3, 5, checkpoint.name)


def test_only_layers_move(checkpoint, trained):
    before, after = load_file(checkpoint / "model.safetensors"), load_file(trained / "model.safetensors")
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]) == (not name.endswith("_proj.weight")), name


def test_a_step_holds_the_adapter_alone(checkpoint, trained):
    step = trained / "steps" / "checkpoint-4"
    assert not list(step.glob("model*.safetensors"))
    weights = sum(file.stat().st_size for file in step.glob("*.safetensors"))
    assert weights < (checkpoint / "model.safetensors").stat().st_size / 20
    assert torch.allclose(adapted(checkpoint, step), logits(omni_r1.load(trained).model), atol=1e-5)


def test_the_optimizer_has_adapter_and_projection_alone(checkpoint, data, tmp_path, monkeypatch):
    found = []
    train = PesftTrainer.train

    def spy(trainer, **kwargs):
        out = train(trainer, **kwargs)
        found.append(trainer)
        return out

    monkeypatch.setattr(PesftTrainer, "train", spy)
    pesft(options(checkpoint, data, tmp_path / "out", max_steps=1))
    (trainer,) = found
    names = {id(weight): name for name, weight in trainer.module.named_parameters()}
    held = {names[id(weight)] for group in trainer.optimizer.param_groups for weight in group["params"]}
    adapter = {name for name in held if ".lora_" in name}
    assert held - adapter == {"projection.weight", "projection.bias"}
    assert len(adapter) == 2 * 2 * 7  # A and B, two layers, seven linear parts
    assert all(weight.grad is None for name, weight in trainer.module.named_parameters() if name not in held)


def test_resumed_is_uninterrupted(checkpoint, data, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "out")
    how = {"save_steps": 2, "logging_steps": 1, "lora_alpha": 5}
    halfway = str(tmp_path / "out" / "steps" / "checkpoint-2")
    pesft(options(checkpoint, data, tmp_path / "out", resume_from_checkpoint=halfway, **how))
    for name in (f"adapter/{ADAPTER}", "perception.safetensors", "model.safetensors"):
        again, wanted = load_file(tmp_path / "out" / name), load_file(trained / name)
        assert again.keys() == wanted.keys()
        assert all(torch.equal(again[part], wanted[part]) for part in wanted), name
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="field 'lora_rank': was 3 in the run that is to go on, not 4"):
        pesft(options(checkpoint, data, tmp_path / "o", **how | {"lora_rank": 4}, resume_from_checkpoint=halfway))


def test_same_seed_same_weights_whatever_is_recomputed(checkpoint, data, tmp_path):
    found = []
    for kind in ("selective", "full", "none", "selective"):
        output = tmp_path / str(len(found))
        pesft(options(checkpoint, data, output, max_steps=2, gradient_checkpointing=kind))
        found.append(saved(output))
    pesft(options(checkpoint, data, tmp_path / "other", max_steps=2, seed=1))
    assert all(torch.equal(found[0][name], one[name]) for one in found for name in one)
    assert not torch.equal(found[0]["weight"], saved(tmp_path / "other")["weight"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, checkpoint, data, tmp_path):
    """The adapter is trained in float32, and merged in the weights' own precision."""
    pesft(options(checkpoint, data, tmp_path / "out", dtype=dtype, learning_rate=1e-3, max_steps=2))
    assert {part.dtype for part in saved(tmp_path / "out").values()} == {torch.float32}
    assert load_file(tmp_path / "out" / "model.safetensors")[LAYER].dtype == getattr(torch, dtype)
    own, wanted = logits(omni_r1.load(tmp_path / "out").model), adapted(checkpoint, tmp_path / "out" / "adapter")
    assert (own - wanted).abs().mean() < 0.02 * wanted.abs().mean()


@installed
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantized(quantize, checkpoint, data, tmp_path):
    """The frozen weights are small; the adapter is merged into those of the checkpoint."""
    how = {"quantize": quantize, "logging_steps": 1, "save_steps": 2, "sample_steps": 4}
    pesft(options(checkpoint, data, tmp_path / "out", max_steps=6, **how))
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    before, after = load_file(checkpoint / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    for name in before:
        assert torch.equal(before[name], after[name]) == (not name.endswith("_proj.weight")), name
    own = logits(omni_r1.load(tmp_path / "out").model)
    assert torch.allclose(own, adapted(checkpoint, tmp_path / "out" / "adapter"), atol=1e-5)
    whole = saved(tmp_path / "out")
    halfway = str(tmp_path / "out" / "steps" / "checkpoint-4")
    pesft(options(checkpoint, data, tmp_path / "out", max_steps=6, resume_from_checkpoint=halfway, **how))
    assert all(torch.equal(whole[name], part) for name, part in saved(tmp_path / "out").items())


@installed
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantized_whatever_is_recomputed(quantize, checkpoint, data, tmp_path):
    found = []
    for kind in ("selective", "full", "none"):
        pesft(options(checkpoint, data, tmp_path / kind, max_steps=2, quantize=quantize, gradient_checkpointing=kind))
        found.append(saved(tmp_path / kind))
    assert all(torch.equal(found[0][name], one[name]) for one in found for name in one)


def test_contradictions():
    for changed, field in (({"lora_rank": -1}, "lora_rank"), ({"lora_rank": 1, "lora_alpha": 0}, "lora_alpha")):
        with pytest.raises(InputError, match=f"field '{field}'"):
            PesftOptions("a", "c", train_data="b", **changed)
    with pytest.raises(InputError, match="field 'quantize'"):
        PesftOptions("a", "c", train_data="b", quantize="4bit")


def test_peft_is_imported_where_it_is_needed():
    """Not by this project, that is: transformers' own Trainer imports it wherever it is installed."""
    shown = (
        "import contextlib, omni_r1.cli\nwith contextlib.suppress(SystemExit): omni_r1.cli.main(['pesft', '--help'])"
    )
    for words in ("import omni_r1.pesft.saving", shown):
        check = [sys.executable, "-c", f"{words}\nimport sys; sys.exit('peft' in sys.modules)"]
        assert subprocess.run(check, capture_output=True).returncode == 0, words
