"""Train the miniature's VQ: `python -m omni_r1.data.miniature.vq CHECKPOINT` fills the VQ of a fresh checkpoint.

The world has finitely many tiles, one to a patch of the VQ, so each tile gets one code: the codebook is their principal
components, the encoder learns to land on the code of the tile it sees (cross-entropy over codebook distances), the
decoder to paint a tile from its code. Targets depend on the tile alone, which gives what a plain VQ-VAE lacks at this
size: the same patch always has the same code, whatever is beside it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omni_r1.data.miniature.corpus import pictures
from omni_r1.data.miniature.tiles import NAMES, PIXELS, SIDE, TILE, draw, read
from omni_r1.model import load
from omni_r1.model.vq import PIXEL_SCALE, codes_to_pixels, pixels_to_codes, to_images
from omni_r1.run_record import progress

STEPS, PAINTING_STEPS, BATCH, LEARNING_RATE = 450, 3000, 16, 2e-3
SHARPNESS = 2.0  # logits of the readability loss per squared distance of a tile, values in [-1, 1]


def codebook(width: int) -> Tensor:
    """(tiles, width): principal components of the tiles' pixels, scaled to unit variance over all."""
    pixels = torch.tensor(PIXELS).reshape(len(PIXELS), -1).float()
    left, singular, _ = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    # The square root flattens the spectrum: tiles that differ in few pixels stay apart.
    components = left[:, :width] * singular[:width].sqrt()
    return components / components.std()


def to_tensor(images: np.ndarray) -> Tensor:
    """Images (n, R, R, 3) uint8 -> normalised pixels (n, 3, R, R), as the processor makes them."""
    return torch.tensor(images).permute(0, 3, 1, 2).float() * PIXEL_SCALE - 1.0


def batch(rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """Pixels (size, 3, 64, 64) and tile numbers (size, 64).

    Half are pictures of the world, half have any tile anywhere, equally likely.
    """
    world = pictures(rng, size // 2)
    grids = np.concatenate([world, rng.integers(len(NAMES), size=(size - len(world), SIDE, SIDE))])
    return to_tensor(np.stack([draw(grid) for grid in grids])), torch.tensor(grids).flatten(1)


def seeing_loss(vq, pixels: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """How far the encoder lands from the codes (n, 64) of the tiles it sees, and the share it gets right."""
    table = vq.quantize.embedding.weight
    found = vq.quant_conv(vq.encoder(pixels)).flatten(2).transpose(1, 2)  # (n, 64, D)
    distance = torch.cdist(found, table[None].expand(len(found), -1, -1)).square()
    loss = F.cross_entropy(-distance.flatten(0, 1), codes.flatten()) + F.mse_loss(found, table[codes])
    return loss, (distance.argmin(-1) == codes).float().mean()


def painting_loss(vq, pixels: Tensor, codes: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    """How far painted pixels are from the true ones, and the share of painted tiles that read as what they should.

    Beside pixel distance there is a cross-entropy over the distance to every tile (`tiles`, (tiles, 192)): a painted
    tile must look more like itself than like its look-alikes, which differ from it in a few pixels only.
    """
    painted = codes_to_pixels(vq, codes)
    patches = F.unfold(painted, TILE, stride=TILE).transpose(1, 2).flatten(0, 1)  # (n * 64, 192)
    distance = torch.cdist(patches, tiles).square()
    readable = F.cross_entropy(-SHARPNESS * distance, codes.flatten())
    loss = F.l1_loss(painted, pixels) + F.mse_loss(painted, pixels) + 0.1 * readable
    return loss, (distance.argmin(-1) == codes.flatten()).float().mean()


@torch.no_grad()
def measure(vq, rng: np.random.Generator, count: int = 100) -> dict[str, float]:
    """Shares of codes and painted tiles that are right, and of whole pictures, on fresh pictures of the world."""
    grids = pictures(rng, count)
    pixels, codes = to_tensor(np.stack([draw(grid) for grid in grids])), torch.tensor(grids).flatten(1)
    right = pixels_to_codes(vq, pixels) == codes
    images = [np.asarray(image) for image in to_images(codes_to_pixels(vq, codes))]
    read_back = np.stack([read(image) for image in images]) == grids
    return {
        "codes_right": right.float().mean().item(),
        "pictures_encoded_right": right.all(1).float().mean().item(),
        "tiles_painted_right": float(read_back.mean()),
        "pictures_painted_right": float(read_back.all((1, 2)).mean()),
    }


def optimise(weights: list[Tensor], steps: int, loss_of: Callable[[], tuple[Tensor, Tensor]], name: str, log) -> None:
    """`steps` of AdamW on the loss, the second value of `loss_of` being a share to log."""
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    with progress(steps, "step", name) as bar:
        for step in range(1, steps + 1):
            loss, right = loss_of()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            bar.update()
            if step % 20 == 0 or step == steps:
                row = {"phase": name, "step": step, "loss": loss.item(), "right": right.item()}
                log(row | {"seconds": round(time.monotonic() - started, 1)})


def train(vq, *, steps: int, painting_steps: int, seed: int, log) -> dict[str, float]:
    """Learn to see, then, with the codes settled, to paint. Returns the figures of `measure`."""
    rng = np.random.default_rng(seed)
    vq.requires_grad_(True).quantize.embedding.weight.requires_grad_(False)
    with torch.no_grad():
        vq.quantize.embedding.weight.copy_(codebook(vq.quantize.embedding.weight.shape[1]))
    tiles = F.unfold(to_tensor(PIXELS), TILE).squeeze(-1)

    def seeing() -> tuple[Tensor, Tensor]:
        return seeing_loss(vq, *batch(rng, BATCH))

    def painting() -> tuple[Tensor, Tensor]:
        return painting_loss(vq, *batch(rng, BATCH), tiles)

    optimise([*vq.encoder.parameters(), *vq.quant_conv.parameters()], steps, seeing, "see", log)
    optimise([*vq.decoder.parameters(), *vq.post_quant_conv.parameters()], painting_steps, painting, "paint", log)
    vq.requires_grad_(False)
    return measure(vq, np.random.default_rng(seed + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a checkpoint folder; its VQ is trained and saved in place")
    parser.add_argument("--steps", type=int, default=STEPS, help="of learning to see")
    parser.add_argument("--painting-steps", type=int, default=PAINTING_STEPS, help="of learning to paint")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    omni = load(args.checkpoint)
    vq = omni.model.model.vqmodel
    steps = {"steps": args.steps, "painting_steps": args.painting_steps}
    with (args.checkpoint / "log.jsonl").open("w", encoding="utf-8", buffering=1) as file:

        def log(row: dict) -> None:
            file.write(json.dumps(row) + "\n")

        figures = train(vq, **steps, seed=args.seed, log=log)
        log(figures)
    print(json.dumps(figures), flush=True)
    omni.save(args.checkpoint)


if __name__ == "__main__":
    main()
