"""PeRPO from the command line to the checkpoint, on the smallest model there is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import omni_r1
from omni_r1.cli import main
from omni_r1.errors import InputError, OmniError
from omni_r1.option_parser import parse
from omni_r1.options import PerpoOptions
from omni_r1.perpo.logprobs import NOTHING
from omni_r1.perpo.run import perpo, reward_profile
from omni_r1.perpo.trainer import PerpoTrainer
from omni_r1.pesft.run import pesft
from omni_r1.show.report import report
from perpo_rows import SETTINGS, log_of, words_of, write_questions
from pesft_rows import write_rows
from tiny import write_checkpoint

FIGURES = {"reward", "accuracy", "format", "perception", "mixed_groups", "learned_groups", "groups", "images"}
FIGURES |= {"whole_images", "commonest_code", "length", "length_spread", "text_length", "ended", "kl", "entropy"}
FIGURES |= {"clip_low", "clip_high", "loss_policy", "drift", "drift_max", "alarms", "perpo_step", "step_time"}
FIGURES |= {f"seconds/{phase}" for phase in ("rollout", "reward", "refresh", "log_probs", "updates")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("perpo"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("perpo-rows") / "rows.jsonl")


def options(checkpoint: Path, questions: Path, output: Path, **changed) -> PerpoOptions:
    return PerpoOptions(str(checkpoint), str(output), str(questions), **({"max_steps": 2} | SETTINGS | changed))


@pytest.fixture(scope="module")
def trained(checkpoint, questions, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("perpo-out")
    assert main(words_of(checkpoint, questions, output, max_steps=3, sample_steps=2, save_steps=1)) == 0
    return output


def test_the_log_has_all_there_is_to_know(trained):
    rows = log_of(trained)
    assert [row["perpo_step"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [2, 4, 6]  # two updates each
    for row in rows:
        assert row.keys() >= FIGURES
        assert all(isinstance(row[name], float) for name in FIGURES)
        assert 0 < row["mixed_groups"] <= 1 and 0 < row["learned_groups"] <= 1
        assert row["drift"] <= row["drift_max"] <= 1e-5
    record = json.loads((trained / "run.json").read_text())
    assert record["options"]["group_size"] == 4 and record["seed"] == 42


def test_only_the_language_model_moves(checkpoint, trained):
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, trained))
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("model.vqmodel."), name


def test_what_it_saves_is_loaded_and_trained_further(trained, tmp_path):
    omni = omni_r1.load(trained)
    assert omni.generate(["What?"], max_new_tokens=8)[0].error is None
    data = write_rows(tmp_path / "rows.jsonl", 4)
    again = omni_r1.options.PesftOptions(str(trained), str(tmp_path / "out"), train_data=str(data), max_steps=1)
    assert pesft(again) == 0


def test_samples_make_a_report(trained):
    assert {folder.name for folder in (trained / "samples").iterdir()} == {"step-000001", "step-000002"}
    folder = trained / "samples" / "step-000001"
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(records) == 16 and len({record["seed"] for record in records}) == 16
    page = report(folder).read_text()
    for record in records:
        assert 0 <= record["reward"] < 1 and record["correct"] is False
        assert f"Reward: <b>{record['reward']:.3f}</b>" in page
    assert page.count("Reward: ") == 16 and "perception mean of smoothness" in page
    assert any("<image_1>" in record["text"] for record in records)
    assert all("-image_" not in record["text"] for record in records)


def test_what_is_left_by_an_earlier_stage_goes_along(checkpoint, questions, tmp_path):
    """The projection and the band that PeSFT leaves beside a checkpoint are those of what comes of it."""
    data = write_rows(tmp_path / "rows.jsonl", 4)
    first = omni_r1.options.PesftOptions(str(checkpoint), str(tmp_path / "a"), train_data=str(data), max_steps=1)
    assert pesft(first) == 0
    assert perpo(options(tmp_path / "a", questions, tmp_path / "b", max_steps=1, profile="default")) == 0
    for name in ("perception.safetensors", "perception_band.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_it_learns_what_it_is_paid_for(checkpoint, questions, tmp_path):
    """Paid for whole images alone, it draws them."""
    paid = {"accuracy_weight": 0.01, "format_weight": 0.01, "perception_weight": 0.98, "kl_coef": 0, "entropy_coef": 0}
    shape = {"max_new_tokens": 24, "learning_rate": 3e-3, "max_steps": 12, "group_size": 8, "mini_batch_size": 4}
    assert perpo(options(checkpoint, questions, tmp_path / "out", warmup_steps=0, **paid, **shape)) == 0
    rows = log_of(tmp_path / "out")
    first, later = rows[0]["reward"], sum(row["reward"] for row in rows[-3:]) / 3
    assert later > first + 0.4, [row["reward"] for row in rows]


def test_the_divergence_begins_at_nothing_and_holds_the_policy_back(checkpoint, questions, tmp_path):
    moved = {}
    before = load_file(checkpoint / "model.safetensors")
    for coefficient in (0.0, 3.0):
        output = tmp_path / str(coefficient)
        how = {"mini_batch_size": 4, "warmup_steps": 0, "max_steps": 3, "kl_coef": coefficient}
        assert perpo(options(checkpoint, questions, output, **how)) == 0
        after = load_file(output / "model.safetensors")
        moved[coefficient] = after, [row["kl"] for row in log_of(output)]
    assert moved[0.0][1] == [0.0] * 3  # without a reference there is none
    assert moved[3.0][1][0] == 0.0 and all(moved[3.0][1][1:])
    assert any(not torch.equal(moved[0.0][0][name], moved[3.0][0][name]) for name in before)


def test_same_seed_same_weights(checkpoint, questions, tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        perpo(options(checkpoint, questions, tmp_path / name, seed=seed))
        found.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_bf16_begins_at_its_reference(checkpoint, questions, tmp_path):
    """Whose weights are bf16 then, and the policy's computed with as such."""
    assert perpo(options(checkpoint, questions, tmp_path / "out", bf16=True, max_steps=1)) == 0
    first = log_of(tmp_path / "out")[0]
    assert first["drift"] < 3e-3  # 1e-2 where the sampler computes in fp32
    assert first["drift_max"] < 0.5 and first["kl"] == pytest.approx(0, abs=0.05)
    stored = load_file(tmp_path / "out" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert stored.dtype == torch.float32


@pytest.mark.parametrize("aggregation", ["seq-mean-token-mean", "token-mean"])
def test_micro_batches_do_not_change_the_update(checkpoint, questions, tmp_path, aggregation):
    found = []
    for size in (8, 2):
        output = tmp_path / str(size)
        asked = {"per_device_train_batch_size": size, "loss_aggregation": aggregation, "warmup_steps": 0}
        perpo(options(checkpoint, questions, output, max_steps=1, **asked))
        found.append((log_of(output)[0], load_file(output / "model.safetensors")))
    for name in ("loss_policy", "kl", "entropy", "grad_norm", "reward"):
        assert found[0][0][name] == pytest.approx(found[1][0][name], rel=1e-3, abs=1e-5), name
    for name, tensor in found[0][1].items():  # AdamW's first step is the sign of the gradient, or of its rounding
        assert torch.isclose(tensor, found[1][1][name], atol=1e-5).float().mean() > 0.98, name


def names_in(error: Exception) -> set[str]:
    return set(str(error).rpartition("at rows ")[2].split(", "))


def test_images_weigh_what_they_are_told_to(checkpoint, questions, tmp_path, monkeypatch):
    batches, harvest = [], PerpoTrainer.harvest
    monkeypatch.setattr(PerpoTrainer, "harvest", lambda self: batches.append(harvest(self)) or batches[-1])
    perpo(options(checkpoint, questions, tmp_path / "out", image_weight=0.25, max_steps=1))
    codes, found = set(omni_r1.load(checkpoint).vocabulary.codes.tolist()), dict[str, set]()
    for batch in batches[0]:
        for token, kind, weight in zip(
            *(batch[name].flatten().tolist() for name in ("ids", "sets", "weights")), strict=True
        ):
            found.setdefault("none" if kind == NOTHING else "code" if token in codes else "text", set()).add(weight)
    assert found == {"none": {0.0}, "code": {0.25}, "text": {1.0}}


def test_a_loss_that_is_not_finite_stops_before_the_update(checkpoint, questions, tmp_path, monkeypatch):
    real, calls, trainers = PerpoTrainer._scores, [], []

    def spoiled(self, model, batch, sampled=False):
        scores = real(self, model, batch, sampled)
        calls.append(torch.is_grad_enabled())
        trainers.append(self)
        if calls.count(True) == 3:  # the first micro-batch of the second update
            return scores._replace(logps=scores.logps + float("inf"))
        return scores

    monkeypatch.setattr(PerpoTrainer, "_scores", spoiled)
    with pytest.raises(OmniError, match="the loss is .* at step 2: stopped before the update, at rows rows.jsonl"):
        perpo(options(checkpoint, questions, tmp_path / "out"))
    assert trainers[0].state.global_step == 1
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_update(checkpoint, questions, tmp_path, monkeypatch, norm):
    made, trainers, backward = PerpoTrainer.__init__, [], []

    def spoil(gradient):
        backward.append(1)
        return gradient * float("nan") if len(backward) == 4 else gradient  # the last micro-batch of two updates

    def init(self, *, rollouts, **kwargs):
        made(self, rollouts=rollouts, **kwargs)
        trainers.append(self)
        rollouts.omni.model.model.norm.weight.register_hook(spoil)

    monkeypatch.setattr(PerpoTrainer, "__init__", init)
    with pytest.raises(OmniError, match="norm of the gradient is nan at step 2: stopped before") as caught:
        perpo(options(checkpoint, questions, tmp_path / "out", max_grad_norm=norm))
    assert trainers[0].state.global_step == 1
    own = {name for batch in trainers[0].batches[2:] for name in batch["names"]}
    assert own and names_in(caught.value) == own
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"mini_batch_size": 3}, "mini_batch_size"),
        ({"overlong_buffer": 33}, "overlong_buffer"),
        ({"group_size": 1}, "group_size"),
        ({"max_steps": 0}, "max_steps"),
        ({"clip_low": 1.0}, "clip_low"),
        ({"adam_beta2": 1.0}, "adam_beta2"),
        ({"seed": 2**32}, "seed"),
        ({"kl_coef": -1.0}, "kl_coef"),
        ({"gen_batch_size": 1, "max_gen_batches": 3}, "gen_batch_size"),  # could never fill a step
        ({"max_images": 1, "mode": "text-only"}, "max_images"),
        ({"max_images": 1, "mode": "unrestricted"}, "max_images"),
        ({"max_text_tokens": 1, "mode": "image-only"}, "max_text_tokens"),
        ({"max_images": 0, "mode": "image-only"}, "max_images"),
        ({"image_weight": 0.0, "mode": "image-only"}, "image_weight"),
        ({"image_weight": -0.5}, "image_weight"),
    ],
)
def test_options_that_contradict(checkpoint, questions, tmp_path, changed, field):
    with pytest.raises(InputError, match=f"field '{field}'"):
        options(checkpoint, questions, tmp_path / "out", **changed)


def test_without_a_band_nothing_is_sampled(checkpoint, questions, tmp_path, monkeypatch):
    monkeypatch.setattr("omni_r1.perpo.run.Rollouts", None)
    with pytest.raises(InputError, match="field 'profile': has no perception_band.json"):
        perpo(options(checkpoint, questions, tmp_path / "out", profile="default"))
    assert not (tmp_path / "out").exists()


def test_look_none_takes_the_perception_reward_away():
    words = ["perpo", "--model-path", "m", "--output-path", "o", "--train-data", "d", "--max-steps", "1"]
    for more, look in (([], "band"), (["--look", "none"], "none"), (["--look", "smoothness"], "smoothness")):
        assert reward_profile(parse(PerpoOptions, words[1:] + more, "perpo")).look == look


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"per_device_train_batch_size": 3}, "per_device_train_batch_size"),
        ({"per_device_train_batch_size": 16}, "per_device_train_batch_size"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"accuracy_weight": 0.0, "format_weight": 0.0}, "accuracy_weight"),
        ({"tau": 0.0}, "tau"),
        ({"profile": "original", "only_right": True}, "only_right"),
        ({"max_new_tokens": 17}, "max_new_tokens"),
        ({"report_to": "mlflow"}, "report_to"),
    ],
)
def test_runs_that_cannot_be(checkpoint, questions, tmp_path, changed, field, monkeypatch):
    monkeypatch.setattr("omni_r1.pesft.run.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"field '{field}'"):
        perpo(options(checkpoint, questions, tmp_path / "out", **changed))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_checkpoint_is_left_alone(checkpoint, questions, trained):
    with pytest.raises(InputError, match="output_path.*has a checkpoint already|has checkpoints"):
        perpo(options(checkpoint, questions, trained))
