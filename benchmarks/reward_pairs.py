"""Which images the reward prefers: `python benchmarks/reward_pairs.py --help`.

Gold step images of the miniature's bench, which its band was not learned from, each beside an image that pretends to be
one. `docs/reward.md` has the table.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import made_with
from PIL import Image as Picture
from tables import markdown, put_section
from torch import Tensor

import omni_r1
from omni_r1 import shipped
from omni_r1.data.miniature.tiles import draw
from omni_r1.data.miniature.world import TASKS, sample
from omni_r1.files import write_atomic
from omni_r1.model import Omni
from omni_r1.option_parser import option, parse
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import energies, smoothness
from omni_r1.run_record import describe_run

TAU = 3.0


@dataclass
class PairOptions:
    """Compare gold step images of the miniature with images of no meaning."""

    pairs: int = option(1000, help="pairs of each kind")
    seed: int = option(1, help="seed of the samples and of what stands beside them")
    json_path: str = option("out/benchmarks/reward_pairs.json", help="file for the figures")
    page: str | None = option(None, help="page whose table is to be written anew")


def gold_steps(omni: Omni, count: int, seed: int) -> Tensor:
    """(count, S) codes, the four tasks in turn."""
    rng = np.random.default_rng(seed)
    grids: list[np.ndarray] = []
    while len(grids) < count:
        for task in TASKS:
            grids += [step.grid for step in sample(task, rng, held_out=True).steps]
    pictures = [Picture.fromarray(draw(grid)) for grid in grids[:count]]
    return omni.vocabulary.tokens_to_codes(omni.encode(pictures))


def pretenders(gold: Tensor, codes: int, seed: int) -> dict[str, Tensor]:
    """Images (n, S) by their kind; `usual` codes are those of gold images, as often as they come there."""
    rng = torch.Generator().manual_seed(seed)
    count, length = gold.shape
    side = round(length**0.5)

    def usual(*shape: int) -> Tensor:
        return gold.flatten()[torch.randint(gold.numel(), shape, generator=rng)]

    noise, flat = torch.randint(codes, gold.shape, generator=rng), usual(count, 1).expand(gold.shape)
    cells = torch.arange(length)
    odd = flat.clone()
    odd[torch.arange(count), torch.randint(length, (count,), generator=rng)] = torch.randint(
        codes, (count,), generator=rng
    )
    return {
        "flat, any code": torch.randint(codes, (count, 1), generator=rng).expand(gold.shape),
        "flat, a usual code": flat,
        "noise": noise,
        "noise of usual codes": usual(*gold.shape),
        "upper half flat, lower half noise": torch.where(cells < length // 2, flat, noise),
        "three quarters flat, a quarter noise": torch.where(cells < 3 * length // 4, flat, noise),
        "checkerboard of two codes": torch.where((cells // side + cells) % 2 == 1, noise[:, :1], noise[:, 1:2]),
        "stripes of two codes": torch.where(cells % 2 == 1, noise[:, :1], noise[:, 1:2]),
        "flat but for one code": odd,
        "the gold image, shuffled": torch.stack([each[torch.randperm(length, generator=rng)] for each in gold]),
    }


def figures(asked: PairOptions) -> list[dict[str, Any]]:
    omni = omni_r1.load("miniature")
    judge = load_judge(omni, shipped.MODEL)
    band = judge.band
    assert band is not None  # it is shipped

    def looks(images: Tensor) -> dict[str, Tensor]:
        found = energies(images, judge.distances)
        return {"paper": smoothness(found, TAU), "default": band.score(images, found)}

    gold = gold_steps(omni, asked.pairs, asked.seed)
    real = looks(gold)
    rows = [{"beside": "the gold image", **{f"{name}_mean": each.mean().item() for name, each in real.items()}}]
    for kind, images in pretenders(gold, len(judge.codebook), asked.seed).items():
        row: dict[str, Any] = {"beside": kind}
        for name, scores in looks(images).items():
            row[f"{name}_mean"] = scores.mean().item()
            row[f"{name}_below"] = (scores < real[name]).float().mean().item()
            row[f"{name}_tied"] = (scores == real[name]).float().mean().item()
        rows.append(row)
    return rows


def main() -> None:
    asked = parse(PairOptions, sys.argv[1:], "reward pairs")
    torch.set_num_threads(1)
    run = describe_run(asked, seed=asked.seed)
    rows = figures(asked)
    Path(asked.json_path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.json_path, json.dumps(rows, indent=1) + "\n")
    shown = []
    for row in rows:
        one = {"image": row["beside"]}
        for name in ("paper", "default"):
            one[f"{name}: mean"] = f"{row[f'{name}_mean']:.3f}"
            one[f"{name}: gold wins"] = f"{row[f'{name}_below']:.1%}" if f"{name}_below" in row else ""
            one[f"{name}: tied"] = f"{row[f'{name}_tied']:.1%}" if f"{name}_tied" in row else ""
        shown.append(one)
    content = f"{asked.pairs:,} pairs each, seed {asked.seed}; {made_with(run)}.\n\n{markdown(shown)}"
    print(content)
    if asked.page:
        put_section(Path(asked.page), "reward pairs", content)


if __name__ == "__main__":
    main()
