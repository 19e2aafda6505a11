"""How much of a PeRPO step's gradient is signal: `python benchmarks/gradients.py --help`.

Independent steps of one policy, none of which is taken: the mean cosine between their gradients, by the weight of an
image's code and by the sampling temperature. Noise alone has cosines of 0 in the mean; with a mean of c, k steps add up
to k c / (1 - c) times as much signal as noise, in squares.
"""

import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import made_with
from tables import markdown, put_section
from torch import Tensor

from omni_r1.files import write_atomic
from omni_r1.model import load
from omni_r1.option_parser import option, parse
from omni_r1.options import PerpoOptions
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.rollouts import Rollouts
from omni_r1.perpo.run import backend_of, reward_profile, training_arguments
from omni_r1.perpo.trainer import PerpoTrainer
from omni_r1.pesft.data import rows_of
from omni_r1.pesft.packing import PACKED, attention
from omni_r1.pesft.saving import Saver
from omni_r1.run_record import describe_run

SHAPE: dict[str, Any] = {"gen_batch_size": 24, "max_gen_batches": 1, "train_batch_size": 24, "mini_batch_size": 24}
SHAPE |= {"group_size": 8, "per_device_train_batch_size": 16, "batch_size": 192, "top_p": 1.0, "max_new_tokens": 400}
SHAPE |= {"kl_coef": 0.0, "entropy_coef": 0.0, "gradient_checkpointing": "none", "max_steps": 1}
WEIGHTS = (1.0, 0.1, 0.0)


@dataclass
class GradientOptions:
    """Compare the gradients of independent steps of PeRPO."""

    model_path: str = option(help="checkpoint that answers")
    train_data: str = option(help="questions, as omni-r1 perpo takes them")
    steps: int = option(8, help="steps, of 24 questions with 8 answers each")
    temperatures: str = option("1.0,0.7", help="sampling temperatures, with commas between")
    seed: int = option(3, help="seed of questions and answers")
    json_path: str = option("out/benchmarks/gradients.json", help="file for the figures")
    page: str | None = option(None, help="page whose section `gradients` becomes the table")


def gradient(trainer: PerpoTrainer, batches: list[dict[str, Any]]) -> Tensor:
    """Of the loss of a step, all weights in one vector."""
    model = trainer.rollouts.omni.model
    model.zero_grad()
    for batch in batches:
        trainer._compute_loss(model, batch).backward()
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def cosines(gradients: list[Tensor]) -> tuple[float, float]:
    """The mean over pairs, and its standard error as if pairs were independent."""
    one = torch.nn.functional.normalize(torch.stack(gradients), dim=1)
    pairs = (one @ one.T)[tuple(torch.triu_indices(len(one), len(one), 1))]
    return float(pairs.mean()), float(pairs.std() / math.sqrt(len(pairs)))


def measured(asked: GradientOptions, temperature: float) -> dict[float, tuple[float, float]]:
    """Mean cosine and its error by weight of an image's code."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SHAPE | {"temperature": temperature, "seed": asked.seed}
        options = PerpoOptions(asked.model_path, folder, asked.train_data, **settings)
        omni = load(asked.model_path)
        rows, _ = rows_of(Path(asked.train_data), options.max_length, omni)
        arguments = training_arguments(options, Path(folder))
        judge, profile = load_judge(omni, asked.model_path), reward_profile(options)
        rollouts = Rollouts(omni, backend_of(options, omni, rows), rows, judge, profile, options)
        saver = Saver(omni, options)
        found: dict[float, list[Tensor]] = {weight: [] for weight in WEIGHTS}
        with omni.model.vq_apart(), attention(omni.model, PACKED):
            trainer = PerpoTrainer(rollouts=rollouts, saver=saver, options=options, reference=None, args=arguments)
            trainer.current_gradient_accumulation_steps = arguments.gradient_accumulation_steps
            is_code = torch.zeros(omni.vocabulary.size, dtype=torch.bool)
            is_code[omni.vocabulary.codes] = True
            for _ in range(asked.steps):
                batches = trainer.harvest()
                equal = [batch["weights"] for batch in batches]  # 1 at every token of a response
                for weight in WEIGHTS:
                    for batch, ones in zip(batches, equal, strict=True):
                        batch["weights"] = torch.where(is_code[batch["ids"]], weight * ones, ones)
                    found[weight].append(gradient(trainer, batches))
    return {weight: cosines(gradients) for weight, gradients in found.items()}


def main() -> None:
    options = parse(GradientOptions, sys.argv[1:], Path(__file__).name)
    run = describe_run(options, options.seed)
    rows = []
    for temperature in map(float, options.temperatures.split(",")):
        for weight, (mean, error) in measured(options, temperature).items():
            rows.append(
                {"temperature": temperature, "image weight": weight, "mean cosine": f"{mean:.3f} ± {error:.3f}"}
            )
            print(rows[-1], flush=True)
    Path(options.json_path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(Path(options.json_path), json.dumps({"run": run, "rows": rows}, indent=1).encode())
    if options.page is not None:
        put_section(Path(options.page), "gradients", markdown(rows) + f"\n({made_with(run)})\n")


if __name__ == "__main__":
    main()
