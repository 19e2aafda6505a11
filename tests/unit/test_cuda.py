"""On a GPU the same comes out as on a CPU, to what single precision leaves."""

import json

import numpy as np
import pytest
import torch

import omni_r1
from omni_r1 import shipped
from omni_r1.cli import main
from omni_r1.generate import SamplingOptions, TransformersBackend
from perpo_rows import log_of, words_of, write_questions
from pesft_rows import write_rows
from prompts import pictured, ragged, traces
from tiny import write_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def both():
    return omni_r1.load(shipped.MODEL), omni_r1.load(shipped.MODEL, device="cuda")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("prompts", [ragged, traces], ids=["ragged", "traces"])
def test_greedy_answers_are_the_cpus(both, prompts, compiled):
    cpu, cuda = both
    rows, options = prompts(cpu, 9, 3), SamplingOptions(max_new_tokens=120)
    wanted = TransformersBackend(cpu, 4).generate(rows, options)
    got = TransformersBackend(cuda, 4, compiled=compiled).generate(rows, options)
    for one, other in zip(got, wanted, strict=True):
        assert one.ids == other.ids and one.stop == other.stop
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


def test_pictures_and_drawings_are_the_cpus(both):
    """Prompts from pixels, and pixels from codes."""
    cpu, cuda = both
    assert pictured(cuda) == pictured(cpu)
    codes = cpu.vocabulary.codes[:32].repeat(2)[None, : cpu.vocabulary.image_length]
    drawn = [np.asarray(omni.decode(codes)[0], dtype=int) for omni in (cpu, cuda)]
    assert abs(drawn[0] - drawn[1]).max() <= 1


@pytest.mark.parametrize("more", [[], ["--lora-rank", "4"], ["--packing", "false"]], ids=str)
def test_pesft_learns_as_on_a_cpu(checkpoint, more, tmp_path):
    losses = []
    for use in ([], ["--use-cpu"]):
        output = tmp_path / f"out{len(use)}"
        words = ["--model-path", checkpoint, "--train-data", write_rows(tmp_path / "rows.jsonl")]
        words += [
            "--output-path",
            output,
            "--per-device-train-batch-size",
            4,
            "--learning-rate",
            1e-3,
            "--logging-steps",
            1,
            *more,
            *use,
        ]
        assert main(["pesft", *map(str, words)]) == 0
        losses.append([row["loss"] for row in map(json.loads, (output / "log.jsonl").open()) if "loss" in row])
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("more", [{}, {"bf16": True}], ids=str)
def test_perpo_learns_from_what_it_samples(checkpoint, more, tmp_path):
    """The sampler's log-probabilities are the trainer's; in bf16 as far as that goes."""
    output, questions = tmp_path / "out", write_questions(tmp_path / "rows.jsonl")
    assert main(words_of(checkpoint, questions, output, max_steps=2, use_cpu=None, **more)) == 0
    rows = log_of(output)
    assert len(rows) == 2 and all(row["drift_max"] < (0.1 if more else 1e-4) for row in rows)


def test_the_miniature_answers_right(tmp_path):
    words = ["--model-path", str(shipped.MODEL), "--limit", "40", "--max-new-tokens", "400", "--device", "cuda"]
    assert main(["bench", *words, "--output-dir", str(tmp_path / "bench")]) == 0
    summary = json.loads((tmp_path / "bench" / "summary.json").read_text())
    assert summary["accuracy"]["overall"] >= 0.9
