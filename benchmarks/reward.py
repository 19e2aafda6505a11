"""How fast the reward looks at images, beside the original's formula: `python benchmarks/reward.py --help`.

Images of 1,024 random codes of a codebook of 8,192 x 256, as the published models have them, each seen once a round, so
that no cache holds what is looked up. Both sides are timed in turn, in one process on one thread, in CPU seconds.

- original: its formula written plainly, image by image: vectors gathered, differences, squares, means
- smoothness, band: what `score` does with the codes of all images of a batch
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import made_with
from tables import markdown, put_section
from torch import Tensor

from omni_r1.files import write_atomic
from omni_r1.option_parser import option, parse
from omni_r1.perpo.reward import Band, energies, smoothness
from omni_r1.perpo.reward.perception import code_distances
from omni_r1.run_record import describe_run

CODES, WIDE, SIDE, TAU = 8192, 256, 32, 3.0
BATCHES = (1, 64)


@dataclass
class BenchmarkOptions:
    """Time the perception reward of random images."""

    images: int = option(512, help="different images of a round")
    rounds: int = option(7, help="rounds of each way; their median counts")
    json_path: str = option("out/benchmarks/reward.json", help="file for the figures")
    page: str | None = option(None, help="page whose table is to be written anew")


def plainly(codes: Tensor, codebook: Tensor) -> Tensor:
    """(n,) the original's scores of images (n, S), one after the other as it does."""
    scores = []
    for image in codes:
        grid = codebook[image].view(SIDE, SIDE, WIDE)
        across = (grid[:, 1:] - grid[:, :-1]).pow(2).sum(-1).mean()
        down = (grid[1:] - grid[:-1]).pow(2).sum(-1).mean()
        scores.append(1 / (1 + float((across + down) / WIDE) / TAU))
    return torch.tensor(scores)


def seconds(look: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> float:
    """CPU seconds of a round."""
    parts = images.split(batch)
    start = time.process_time()
    for part in parts:
        look(part)
    return time.process_time() - start


def figures(asked: BenchmarkOptions) -> tuple[list[dict[str, Any]], float]:
    """A row for each way and batch, and the CPU seconds that the table of distances takes."""
    torch.manual_seed(0)
    codebook, images = torch.randn(CODES, WIDE), torch.randint(CODES, (asked.images, SIDE * SIDE))
    start = time.process_time()
    distances = code_distances(codebook)
    making = time.process_time() - start
    band = Band.learn(images, codebook)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "original": lambda codes: plainly(codes, codebook),
        "smoothness": lambda codes: smoothness(energies(codes, distances), TAU),
        "band": lambda codes: band.score(codes, energies(codes, distances)),
    }
    assert torch.allclose(ways["original"](images), ways["smoothness"](images), atol=1e-6)
    rows = []
    for batch in BATCHES:
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, look in ways.items():
                taken[name].append(seconds(look, images, batch))
        rates = {name: asked.images / statistics.median(each) for name, each in taken.items()}
        for name, rate in rates.items():
            one = {"way": name, "batch": batch, "images_per_cpu_second": round(rate, 1)}
            rows.append(one | {"of_original": round(rate / rates["original"], 2)})
    return rows, making


def main() -> None:
    asked = parse(BenchmarkOptions, sys.argv[1:], "reward benchmark")
    torch.set_num_threads(1)
    run = describe_run(asked, seed=0)
    rows, making = figures(asked)
    Path(asked.json_path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.json_path, json.dumps(rows, indent=1) + "\n")
    shown = [
        {
            "way": one["way"],
            "images at once": one["batch"],
            "images / CPU second": f"{one['images_per_cpu_second']:,.0f}",
            "of original": f"{one['of_original']:.1f} x",
        }
        for one in rows
    ]
    content = f"{run['machine']}, 1 thread; {made_with(run)}.\n\n{markdown(shown)}"
    content += f"\nThe table of distances is made once for a codebook, in {making:.1f} CPU seconds.\n"
    print(content)
    if asked.page:
        put_section(Path(asked.page), "reward", content)


if __name__ == "__main__":
    main()
