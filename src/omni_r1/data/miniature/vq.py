"""Train the miniature's VQ: `python -m omni_r1.data.miniature.vq CHECKPOINT` fills the VQ of a fresh checkpoint.

The world has finitely many tiles, one to a patch of the VQ, so each tile gets one code: the codebook is their principal
components, the encoder learns to land on the code of the tile it sees (cross-entropy over codebook distances), the
decoder to paint a tile from its code. Targets depend on the tile alone, which gives what a plain VQ-VAE lacks at this
size: the same patch always has the same code, whatever is beside it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omni_r1.data.miniature.corpus import pictures
from omni_r1.data.miniature.tiles import NAMES, PIXELS, SIDE, draw, read
from omni_r1.model import load

STEPS, BATCH, LEARNING_RATE = 600, 16, 2e-3


def codebook(width: int) -> Tensor:
    """(tiles, width): principal components of the tiles' pixels, scaled to unit variance over all."""
    pixels = torch.tensor(PIXELS).reshape(len(PIXELS), -1).float()
    left, singular, _ = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    # The square root flattens the spectrum: tiles that differ in few pixels stay apart.
    components = left[:, :width] * singular[:width].sqrt()
    return components / components.std()


def batch(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grids (size, 8, 8): half from the world, half with every tile equally likely anywhere."""
    world = pictures(rng, size // 2)
    return np.concatenate([world, rng.integers(len(NAMES), size=(size - len(world), SIDE, SIDE))])


def to_pixels(grids: np.ndarray) -> Tensor:
    """Grids (n, 8, 8) -> normalised pixels (n, 3, 64, 64), as the processor makes them (x * 0.0078 - 1)."""
    images = np.stack([draw(grid) for grid in grids])
    return torch.tensor(images).permute(0, 3, 1, 2).float() * 0.0078 - 1.0


def losses(vq, grids: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder loss, decoder loss, and the share of codes the encoder gets right."""
    pixels, codes = to_pixels(grids), torch.tensor(grids).flatten(1)
    table = vq.quantize.embedding.weight
    found = vq.quant_conv(vq.encoder(pixels)).flatten(2).transpose(1, 2)  # (n, 64, D)
    distance = torch.cdist(found, table[None].expand(len(found), -1, -1)).square()
    seen = F.cross_entropy(-distance.flatten(0, 1), codes.flatten())
    commit = F.mse_loss(found, table[codes])
    wanted = table[codes].transpose(1, 2).reshape(len(grids), -1, SIDE, SIDE)
    painted = vq.decoder(vq.post_quant_conv(wanted))
    paint = F.l1_loss(painted, pixels) + F.mse_loss(painted, pixels)
    return seen + commit, paint, (distance.argmin(-1) == codes).float().mean()


@torch.no_grad()
def measure(vq, rng: np.random.Generator, count: int = 100) -> dict[str, float]:
    """Shares of codes and painted tiles that are right, and of whole pictures, on fresh pictures of the world."""
    grids = pictures(rng, count)
    pixels, codes = to_pixels(grids), torch.tensor(grids).flatten(1)
    table = vq.quantize.embedding.weight
    found = vq.quant_conv(vq.encoder(pixels)).flatten(2).transpose(1, 2)
    right = torch.cdist(found, table[None].expand(count, -1, -1)).argmin(-1) == codes
    painted = vq.decoder(vq.post_quant_conv(table[codes].transpose(1, 2).reshape(count, -1, SIDE, SIDE)))
    images = ((painted + 1) / 0.0078).clip(0, 255).byte().permute(0, 2, 3, 1).numpy()
    read_back = np.stack([read(image) for image in images]) == grids
    return {
        "codes_right": right.float().mean().item(),
        "pictures_encoded_right": right.all(1).float().mean().item(),
        "tiles_painted_right": float(read_back.mean()),
        "pictures_painted_right": float(read_back.all((1, 2)).mean()),
    }


def train(vq, *, steps: int, seed: int, log) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    vq.requires_grad_(True).quantize.embedding.weight.requires_grad_(False)
    with torch.no_grad():
        vq.quantize.embedding.weight.copy_(codebook(vq.quantize.embedding.weight.shape[1]))
    weights = [weight for weight in vq.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    for step in range(1, steps + 1):
        seen, paint, right = losses(vq, batch(rng, BATCH))
        optimiser.zero_grad()
        (seen + 4.0 * paint).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            seconds = time.monotonic() - started
            row = {"step": step, "seen": seen.item(), "paint": paint.item(), "codes_right": right.item()}
            log(json.dumps(row | {"seconds": round(seconds, 1)}))
    vq.requires_grad_(False)
    return measure(vq, np.random.default_rng(seed + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a checkpoint folder; its VQ is trained and saved in place")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    omni = load(args.checkpoint)
    vq = omni.model.model.vqmodel
    figures = train(vq, steps=args.steps, seed=args.seed, log=lambda line: print(line, flush=True))
    print(json.dumps(figures), flush=True)
    omni.save(args.checkpoint)


if __name__ == "__main__":
    main()
