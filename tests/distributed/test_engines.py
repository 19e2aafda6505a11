"""Two processes on the CPU, by every engine, take the steps that one process takes; and resume to the bit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omni_r1.vocabulary import Vocabulary
from tiny import CODES, SIDE, write_checkpoint

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "configs" / "engines"
ON_CPU = Path(__file__).with_name("pesft_on_cpu.py")
CLOSE = 1e-4
STEPS = 6  # of 4 rows: two epochs of 22 rows, each with a last step of blanks in it
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def write_rows(path: Path) -> Path:
    lines = []
    for row in range(22):
        image = [(row * code) % CODES for code in range(SIDE * SIDE)]
        response = [{"text": "See: " + "so " * (row % 5)}, {"image": image}]
        lines.append(json.dumps({"prompt": [{"text": "What?"}], "response": response, "ended": True}))
    path.write_text("\n".join(lines) + "\n")
    return path


class Bed:
    """A checkpoint and rows; `train` is a run on them in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.rows = write_checkpoint(folder / "checkpoint"), write_rows(folder / "rows.jsonl")

    def train(self, output: Path, processes: int, *more: str) -> list[float]:
        """The losses of its steps. Eight rows a step, however many processes."""
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        words = ["--model-path", self.checkpoint, "--train-data", self.rows, "--output-path", output]
        words += ["--learning-rate", 1e-2, "--per-device-train-batch-size", 2, "--num-train-epochs", 2]
        words += ["--gradient-accumulation-steps", 4 // processes, "--logging-steps", 1]
        command = [sys.executable, *(launch if processes > 1 else []), ON_CPU, "pesft", *words, *more]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model.safetensors") | load_file(output / "perception.safetensors")


@pytest.fixture(scope="module")
def bed(tmp_path_factory) -> Bed:
    return Bed(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def alone(bed, tmp_path_factory) -> tuple[list[float], dict[str, torch.Tensor]]:
    output = tmp_path_factory.mktemp("alone")
    return bed.train(output, 1), weights(output)


def engine_options(engine: str, folder: Path) -> list[str]:
    if engine == "ddp":
        return []
    if engine == "fsdp2":
        return ["--fsdp-config", str(ENGINES / "fsdp2.json")]
    pytest.importorskip("deepspeed")
    settings = json.loads((ENGINES / f"{engine}.json").read_text())
    if engine == "zero3":
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # or weights this small stay whole
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    return ["--deepspeed-config-json", str(folder / "deepspeed.json")]


@pytest.mark.parametrize("engine", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_losses_and_weights_of_one_process(engine, bed, alone, tmp_path):
    more = engine_options(engine, tmp_path)
    losses = bed.train(tmp_path / "out", 2, *more, "--save-steps", "2")
    assert losses == pytest.approx(alone[0], abs=CLOSE) and len(losses) == STEPS
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.allclose(tensor, alone[1][name], rtol=0, atol=CLOSE), name
    # From a checkpoint in the middle of an epoch on, it ends with the same weights.
    steps = tmp_path / "again" / "steps"
    shutil.copytree(tmp_path / "out" / "steps" / "checkpoint-4", steps / "checkpoint-4")
    shutil.copy(tmp_path / "out" / "run.json", tmp_path / "again")
    rest = bed.train(tmp_path / "again", 2, *more, "--save-steps", "2", "--resume-from-checkpoint", "last")
    assert rest == losses[4:]
    again = weights(tmp_path / "again")
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(tmp_path / "out").items())


@pytest.mark.parametrize("engine", ["fsdp2", "zero2"])
def test_bf16_leaves_the_vq_module_and_the_loss_in_full_precision(engine, bed, alone, tmp_path):
    losses = bed.train(tmp_path / "out", 2, *engine_options(engine, tmp_path), "--bf16", "--max-steps", "2")
    assert losses == pytest.approx(alone[0][:2], rel=0.1)
    assert all(loss != float(torch.tensor(loss).bfloat16()) for loss in losses)
    before = load_file(bed.checkpoint / "model.safetensors")
    after = weights(tmp_path / "out")
    for name, tensor in before.items():
        if name.startswith("model.vqmodel."):
            assert torch.equal(tensor, after[name]), name


def test_the_original_readmes_line(bed, tmp_path):
    """`deepspeed --num_gpus N PROGRAM ...` with its options and rows, the program's name replaced."""
    pytest.importorskip("deepspeed")
    vocabulary = Vocabulary.from_checkpoint(bed.checkpoint)
    (tmp_path / "json").mkdir()
    trace = "THOUGHT 1: see. <image_start>[reasoning_image_1]<image_end>"
    ids = vocabulary.codes[: vocabulary.image_length].tolist()
    rows = [
        {"Question": f"What is {row}?", "Text Reasoning Trace": trace, "Final Answer": "a", "reasoning_image_1": ids}
        for row in range(4)
    ]
    (tmp_path / "json" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model_path", bed.checkpoint, "--output_path", tmp_path / "out", "--json_dir", tmp_path / "json"]
    words += ["--deepspeed_config_json", ENGINES / "zero2.json", "--learning_rate", "1e-5"]
    words += ["--gradient_accumulation_steps", 1, "--num_train_epochs", 1, "--per_device_train_batch_size", 1]
    words += ["--mode", "templated"]
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", 2, "--master_port", 29517]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT / "src")}
    command = [str(word) for word in [*launcher, ON_CPU, "pesft", *words]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rows written" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 and (tmp_path / "out" / "model.safetensors").is_file()


def test_fsdp_that_would_not_run_is_an_error(bed, tmp_path):
    words = ["--model-path", bed.checkpoint, "--train-data", bed.rows, "--output-path", tmp_path / "out"]
    words += ["--fsdp-config", ENGINES / "fsdp2.json", "--use-cpu"]
    command = [str(word) for word in [sys.executable, "-m", "omni_r1.cli", "pesft", *words]]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "fsdp_config" in done.stderr.splitlines()[-1]
