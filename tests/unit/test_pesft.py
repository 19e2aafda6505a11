import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import omni_r1
from omni_r1.errors import InputError, OmniError
from omni_r1.options import PesftOptions
from omni_r1.perpo.judge import load_judge
from omni_r1.pesft.checkpoints import find, whole
from omni_r1.pesft.dataset import BLANK, StepSampler, TrajectoryDataset
from omni_r1.pesft.losses import IGNORED, code_targets, cross_entropy, perception_sum
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.run import pesft
from omni_r1.pesft.trainer import PesftTrainer
from omni_r1.trajectory import Text, plain
from pesft_rows import write_rows
from tiny import write_checkpoint
from training_files import rows_of

PERCEPTION = Path(__file__).parents[3] / "shared" / "reference" / "golden" / "perception_loss.npz"


def golden_parts():
    if not PERCEPTION.is_file():
        pytest.skip(f"the reference values are not at {PERCEPTION}")
    golden = np.load(PERCEPTION)
    projection = torch.nn.Linear(128, 256)
    projection.weight.data, projection.bias.data = torch.tensor(golden["W"]), torch.tensor(golden["b"])
    code_of = torch.full((20_100,), -1)
    code_of[torch.tensor(golden["image_ids"][0])] = torch.arange(16)
    codes = code_targets(torch.tensor(golden["labels"]), code_of)
    return golden, projection, torch.tensor(golden["codebook_rows"]), codes


def test_perception_loss_is_the_originals_when_aligned_as_there():
    golden, projection, codebook, codes = golden_parts()
    total, count = perception_sum(torch.tensor(golden["hidden"]), projection, codebook, codes, "same")
    assert count == 16
    assert total.item() / count == pytest.approx(float(golden["loss"]), abs=1e-6)


def test_next_alignment_takes_the_state_before():
    golden, projection, codebook, codes = golden_parts()
    hidden = torch.tensor(golden["hidden"])
    moved = torch.cat([hidden[:, 1:], hidden[:, -1:]], 1)  # the state that was at t is now at t - 1
    same, _ = perception_sum(hidden, projection, codebook, codes, "same")
    following, _ = perception_sum(moved, projection, codebook, codes, "next")
    assert following.item() == pytest.approx(same.item(), rel=1e-6)


def test_cross_entropy_is_the_plain_formula():
    torch.manual_seed(0)
    hidden, head, labels = torch.randn(2, 7, 8), torch.nn.Linear(8, 11, bias=False), torch.randint(0, 11, (2, 7))
    labels[0, :4] = IGNORED
    total, losses, targets = cross_entropy(hidden, head, labels)
    logits = head(hidden)[:, :-1].flatten(0, 1)
    plainly = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED)
    assert losses.mean().item() == pytest.approx(plainly.item(), abs=1e-6)
    assert total.item() == pytest.approx(losses.sum().item(), abs=1e-5)
    assert len(targets) == int((labels[:, 1:] != IGNORED).sum())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("pesft"))


def options(checkpoint: Path, data: Path, output: Path, **changed) -> PesftOptions:
    values = {"learning_rate": 1e-2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4}
    values["train_data"] = str(data)
    return PesftOptions(str(checkpoint), str(output), **(values | changed))


def test_the_band_of_the_step_images_lies_beside_the_checkpoint(checkpoint, tmp_path):
    """Of what the rows teach to draw, not of the pictures in their questions; read back with the projection."""
    pesft(options(checkpoint, write_rows(tmp_path / "rows.jsonl"), tmp_path / "out", max_steps=1))
    judge = load_judge(omni_r1.load(tmp_path / "out"), tmp_path / "out")
    assert judge.band is not None and judge.projection is not None
    assert judge.band.images == 24 and sum(judge.band.counts) == 24 * judge.vocabulary.image_length


def test_a_run_without_step_images_leaves_no_band(checkpoint, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(plain([Text("What?")], [Text("So. ")], "red").to_json()) + "\n")
    pesft(options(checkpoint, tmp_path / "rows.jsonl", tmp_path / "out", max_steps=1))
    assert not (tmp_path / "out" / "perception_band.json").exists()


def test_training_moves_what_it_should_and_nothing_else(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    assert pesft(options(checkpoint, data, tmp_path / "out")) == 0
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("model.vqmodel."), name
    # The projection is trained and saved: it has left the values that its seed gives.
    saved = load_file(tmp_path / "out" / "perception.safetensors")
    torch.manual_seed(42)
    assert saved["weight"].shape == (8, 32)
    fresh = PesftModule(omni_r1.load(checkpoint), "next").projection.weight
    assert not torch.allclose(saved["weight"], fresh)
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["seed"] == 42 and record["options"]["alignment"] == "next"
    omni_r1.load(tmp_path / "out")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    assert pesft(options(checkpoint, data, tmp_path / "out", dtype=dtype, learning_rate=1e-4, max_steps=2)) == 0
    assert load_file(tmp_path / "out" / "perception.safetensors")["weight"].dtype == torch.float32


def test_resuming_goes_on_with_the_log(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    pesft(options(checkpoint, data, tmp_path / "out", save_steps=2, logging_steps=1))
    halfway = str(tmp_path / "out" / "steps" / "checkpoint-2")
    pesft(options(checkpoint, data, tmp_path / "out", save_steps=2, logging_steps=1, resume_from_checkpoint=halfway))
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="nowhere.*resume_from_checkpoint"):
        pesft(options(checkpoint, data, tmp_path / "out", resume_from_checkpoint=str(tmp_path / "nowhere")))


def test_the_last_step_is_logged_wherever_it_falls(checkpoint, tmp_path):
    pesft(options(checkpoint, write_rows(tmp_path / "rows.jsonl"), tmp_path / "out", max_steps=3, logging_steps=10))
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 3]


def test_same_seed_same_weights(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pesft(options(checkpoint, data, tmp_path / name, seed=seed))
        files = [load_file(tmp_path / name / file) for file in ("model.safetensors", "perception.safetensors")]
        weights.append(files[0] | files[1])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_micro_batches_do_not_change_the_gradient(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    weights = []
    for name, size, accumulated in (("whole", 4, 1), ("parts", 1, 4)):
        shape = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        pesft(options(checkpoint, data, tmp_path / name, max_steps=1, max_grad_norm=0.0, **shape))
        rows = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        weights.append(load_file(tmp_path / name / "model.safetensors"))
        assert rows
    for key, tensor in weights[0].items():
        # AdamW's first step is the sign of the gradient times the rate: equal but where the gradient is all rounding.
        assert torch.isclose(tensor, weights[1][key], atol=1e-5).float().mean() > 0.99, key


def test_bad_rows_are_named(checkpoint, tmp_path):
    vocabulary = omni_r1.load(checkpoint).vocabulary
    good = write_rows(tmp_path / "good.jsonl", 1).read_text()
    for bad, words in (
        ("{", "malformed JSON"),
        ('{"prompt": 3}', "'prompt'"),
        ('{"prompt": [{"text": 3}]}', "text must be a string"),
        ('{"prompt": [{"image": [1, 2]}]}', "an image has 2 codes"),
        ('{"response": [{"text": "' + "x" * 999 + '"}]}', "max_length"),
        ('{"Question": "as the original has it"}', "field 'response': is empty"),
    ):
        path = tmp_path / "bad.jsonl"
        path.write_text(good + bad + "\n")
        with pytest.raises(InputError) as caught:
            TrajectoryDataset(path, vocabulary, 400)
        assert f"{path}:2" in str(caught.value) and words in str(caught.value)


def test_a_step_is_a_random_mix_sorted_inside(checkpoint, tmp_path):
    data = TrajectoryDataset(write_rows(tmp_path / "rows.jsonl"), omni_r1.load(checkpoint).vocabulary, 400)
    sampler = StepSampler(data, 2, 4, seed=3, even=False)
    order = list(sampler)
    assert sorted(order) == list(range(24)) and order == list(sampler)
    for start in range(0, 24, 8):
        lengths = [data.length(row) for row in order[start : start + 8]]
        assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    sampler.set_epoch(1)
    assert list(sampler) != order


def test_long_rows_are_dealt_to_different_micro_batches(checkpoint, tmp_path):
    data = TrajectoryDataset(write_rows(tmp_path / "rows.jsonl"), omni_r1.load(checkpoint).vocabulary, 400)
    sorted_order, even = (list(StepSampler(data, 3, 4, seed=3, even=kind)) for kind in (False, True))

    def spread(order):
        steps = torch.tensor([data.length(row) for row in order]).view(-1, 4, 3).sum(2)
        return (steps.amax(1) - steps.amin(1)).sum().item()

    assert sorted(sorted_order[:12]) == sorted(even[:12])
    assert spread(even) < spread(sorted_order) / 4


@pytest.mark.parametrize("even", [False, True])
def test_the_last_step_is_filled_with_blanks(checkpoint, tmp_path, even):
    data = TrajectoryDataset(write_rows(tmp_path / "rows.jsonl"), omni_r1.load(checkpoint).vocabulary, 400)
    for batch_size, batches in ((5, 2), (1, 7), (10, 1)):
        sampler = StepSampler(data, batch_size, batches, seed=0, even=even)
        order = list(sampler)
        assert len(order) == len(sampler) and len(order) % (batch_size * batches) == 0
        assert sorted(row for row in order if row != BLANK) == list(range(24))


def test_a_loss_that_is_not_finite_stops_before_the_update(checkpoint, tmp_path):
    omni = omni_r1.load(checkpoint)
    omni.model.lm_head.weight.data[0] = float("nan")
    omni.save(tmp_path / "nan")
    with pytest.raises(OmniError, match="stopped before the update"):
        pesft(options(tmp_path / "nan", write_rows(tmp_path / "rows.jsonl"), tmp_path / "out"))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def original_rows(path: Path, vocabulary) -> Path:
    """The rows of `write_rows` as the original repository has them."""
    lines = []
    for line in write_rows(path.with_suffix(".own")).read_text().splitlines():
        whole = json.loads(line)
        (words, picture, _), (said, step, answer) = whole["prompt"], whole["response"]
        ids = {key: vocabulary.codes[image["image"]].tolist() for key, image in (("p", picture), ("r", step))}
        row = {
            "Question": f"{words['text']}<image_start>[p]<image_end>",
            "Text Reasoning Trace": f"{said['text']}<image_start>[r]<image_end>",
            "Final Answer": answer["text"].removeprefix("\nFinal Answer: "),
            **ids,
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_originals_rows_and_shards_train_as_trajectories_do(checkpoint, tmp_path):
    (tmp_path / "json").mkdir()
    vocabulary = omni_r1.load(checkpoint).vocabulary
    data = write_rows(tmp_path / "rows.jsonl")
    original_rows(tmp_path / "json" / "rows.jsonl", vocabulary)
    broken = {"Question": "Why?", "Text Reasoning Trace": "<image_start>[gone]<image_end>", "Final Answer": "so"}
    with (tmp_path / "json" / "rows.jsonl").open("a") as out:
        out.write(json.dumps(broken) + "\n")
    pesft(options(checkpoint, data, tmp_path / "own"))
    pesft(options(checkpoint, None, tmp_path / "json_dir", train_data=None, json_dir=str(tmp_path / "json")))
    pesft(options(checkpoint, tmp_path / "json_dir" / "data", tmp_path / "shards"))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("own", "json_dir", "shards")]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])
    [reject] = (tmp_path / "json_dir" / "data" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["reason"] == "unknown-placeholder" and json.loads(reject)["row"] == 25


def test_shards_of_another_vq_or_vocabulary_are_refused(checkpoint, tmp_path):
    vocabulary = omni_r1.load(checkpoint).vocabulary
    original_rows(tmp_path / "rows.jsonl", vocabulary)
    pesft(options(checkpoint, None, tmp_path / "a", train_data=None, json_dir=str(tmp_path / "rows.jsonl")))
    manifest = tmp_path / "a" / "data" / "manifest.json"
    for field, words in (("vq", "another VQ"), ("vocabulary", "not this checkpoint's")):
        before = manifest.read_text()
        manifest.write_text(json.dumps(json.loads(before) | {field: "0" * 64}))
        with pytest.raises(InputError, match=words):
            pesft(options(checkpoint, tmp_path / "a" / "data", tmp_path / "b"))
        manifest.write_text(before)


def test_shards_laid_out_otherwise_than_asked_are_refused(checkpoint, tmp_path):
    original_rows(tmp_path / "rows.jsonl", omni_r1.load(checkpoint).vocabulary)
    pesft(options(checkpoint, None, tmp_path / "a", train_data=None, json_dir=str(tmp_path / "rows.jsonl")))
    with pytest.raises(InputError, match="laid out in mode plain, not templated"):
        pesft(options(checkpoint, tmp_path / "a" / "data", tmp_path / "b", mode="templated"))
    for mode in (None, "plain"):
        pesft(options(checkpoint, tmp_path / "a" / "data", tmp_path / f"c-{mode}", mode=mode))
    more = {"train_data": None, "json_dir": str(tmp_path / "rows.jsonl")}
    pesft(options(checkpoint, None, tmp_path / "t", mode="templated", **more))
    for mode in (None, "templated"):
        pesft(options(checkpoint, tmp_path / "t" / "data", tmp_path / f"d-{mode}", mode=mode))
    with pytest.raises(InputError, match="laid out in mode templated, not plain"):
        pesft(options(checkpoint, tmp_path / "t" / "data", tmp_path / "e", mode="plain"))


def test_a_run_of_before_mode_could_be_none_goes_on(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    pesft(options(checkpoint, data, tmp_path / "out", max_steps=1, save_steps=1, lr_scheduler_type="constant"))
    record = tmp_path / "out" / "run.json"
    record.write_text(record.read_text().replace('"mode": null', '"mode": "plain"'))
    changed = {"max_steps": 2, "lr_scheduler_type": "constant", "resume_from_checkpoint": "last"}
    pesft(options(checkpoint, data, tmp_path / "out", **changed))


@pytest.mark.parametrize("norm", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_the_update(checkpoint, tmp_path, monkeypatch, norm, bad):
    data, steps, modules = write_rows(tmp_path / "rows.jsonl"), [], []

    def init(self, *, module, **kwargs):
        modules.append(module)
        made(self, module=module, **kwargs)
        module.projection.weight.register_hook(spoil)

    def spoil(gradient):
        steps.append(1)
        if len(steps) == 2 * 3:  # the last micro-batch of step 3; the loss itself is finite
            return gradient.masked_fill(torch.eye(*gradient.shape, dtype=torch.bool), bad)

    made = PesftTrainer.__init__
    monkeypatch.setattr(PesftTrainer, "__init__", init)
    more = {"max_grad_norm": norm, "save_steps": 1, "logging_steps": 1}
    with pytest.raises(OmniError, match="norm of the gradient is (nan|inf) at step 3: stopped before") as caught:
        pesft(options(checkpoint, data, tmp_path / "out", **more))
    rows = StepSampler(TrajectoryDataset(data, omni_r1.load(checkpoint).vocabulary, 400), 2, 2, 42, True)
    named = {f"rows.jsonl:{row + 1}" for row in list(rows)[8:12]}
    assert set(str(caught.value).rpartition("at rows ")[2].split(", ")) == named
    saved = tmp_path / "out" / "steps" / "checkpoint-2"
    assert find("last", saved.parent) == saved
    kept = load_file(saved / "model.safetensors") | {
        f"projection.{name}": tensor for name, tensor in load_file(saved / "perception.safetensors").items()
    }
    for name, tensor in modules[0].state_dict().items():  # the VQ module is back in it
        assert torch.equal(tensor, kept[name.removeprefix("model.")]), name
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2]
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def interrupted(checkpoint, tmp_path_factory) -> tuple[Path, Path]:
    """The data and the folder of a run of four steps, with checkpoints of the last two."""
    base = tmp_path_factory.mktemp("interrupted")
    data = write_rows(base / "rows.jsonl")
    pesft(options(checkpoint, data, base / "out", save_steps=1))
    return data, base / "out"


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 7},
        {"per_device_train_batch_size": 4},
        {"gradient_accumulation_steps": 1},
        {"learning_rate": 1e-3},
        {"packing": False},
        {"max_steps": 9},
        {"max_steps": 9, "lr_scheduler_type": "constant"},
        {"lora_rank": 2},
    ],
)
def test_a_run_goes_on_with_what_decides_its_numbers(checkpoint, interrupted, changed):
    data, output = interrupted
    before = {file: file.stat().st_mtime_ns for file in output.rglob("*")}
    name = [*changed][-1]
    with pytest.raises(InputError, match=f"run.json: field '{name}': was .* in the run that is to go on"):
        pesft(options(checkpoint, data, output, save_steps=1, resume_from_checkpoint="last", **changed))
    assert {file: file.stat().st_mtime_ns for file in output.rglob("*")} == before


def test_a_run_goes_on_with_its_rows_wherever_they_are(checkpoint, interrupted, tmp_path):
    data, output = interrupted
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(data.read_bytes())
    weights = load_file(output / "model.safetensors")
    first = str(output / "steps" / "checkpoint-3")
    free = {"save_steps": 2, "logging_steps": 1, "gradient_checkpointing": "none", "resume_from_checkpoint": first}
    assert pesft(options(checkpoint, moved, output, **free)) == 0
    again = load_file(output / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    moved.write_bytes(data.read_bytes() + data.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(InputError, match="train_data.*other rows"):
        pesft(options(checkpoint, moved, output, **free))
    with pytest.raises(InputError, match="has checkpoints of an earlier run"):
        pesft(options(checkpoint, data, output))


def test_a_longer_run_at_a_constant_rate_is_gone_on_with(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", 6)
    at = {"lr_scheduler_type": "constant", "logging_steps": 1, "resume_from_checkpoint": "last"}
    pesft(options(checkpoint, data, tmp_path / "out", save_steps=5, max_steps=3, **at))
    pesft(options(checkpoint, data, tmp_path / "out", save_steps=1, max_steps=5, **at))  # and saves more often
    pesft(options(checkpoint, data, tmp_path / "whole", max_steps=5, **at))
    assert [place.name for place in whole(tmp_path / "out" / "steps")] == ["checkpoint-4", "checkpoint-5"]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert rows_of(tmp_path / "out" / "log.jsonl") == rows_of(tmp_path / "whole" / "log.jsonl")


def test_a_used_folder_is_not_written_over(checkpoint, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl")
    pesft(options(checkpoint, data, tmp_path / "out", max_steps=1))
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="field 'output_path': has a checkpoint already"):
        pesft(options(checkpoint, data, tmp_path / "out", max_steps=1, seed=7))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_an_engine_needs_its_launcher(checkpoint, tmp_path):
    (tmp_path / "zero.json").write_text("{}")
    data = write_rows(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="field 'deepspeed_config_json': needs a launcher"):
        pesft(options(checkpoint, data, tmp_path / "out", deepspeed_config_json=str(tmp_path / "zero.json")))
    assert not (tmp_path / "out").exists()
