"""How an image looks as codes: energies of neighbouring codes (paper eq 4 to 11), and the distance of hidden states.

Everything is over all images of a batch at once. Neighbours are looked up in a table of distances between codes, made
once for a codebook: an image costs two thousand numbers read, not a quarter of a million computed.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from omni_r1.errors import InputError

Map = Literal["inv", "exp"]
ROWS_AT_ONCE = 1024  # of the table: temporary memory stays small beside it


def code_distances(codebook: Tensor) -> Tensor:
    """(K, K) ||E[a] - E[b]||^2 / D of a codebook (K, D), fp32 on the CPU: 256 MiB for the published 8192 codes."""
    vectors = codebook.detach().cpu().float()
    vectors = vectors - vectors.mean(0)  # less cancels in the products
    lengths = vectors.square().sum(1)
    table = torch.empty(len(vectors), len(vectors))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        torch.addmm(lengths.expand(len(vectors[part]), -1), vectors[part], vectors.T, alpha=-2, out=table[part])
        table[part] += lengths[part, None]
    return table.div_(vectors.shape[1]).clamp_(min=0).fill_diagonal_(0)


def side_of(length: int) -> int:
    """Side of the grid of an image of S codes. Raises InputError where it is no square."""
    side = round(length**0.5)
    if length < 4 or side * side != length:
        raise InputError(f"images of {length} codes are no square grid of two or more a side", field="codes")
    return side


def energies(codes: Tensor, distances: Tensor) -> Tensor:
    """(n, 2) E_h / D and E_v / D of images as codes (n, S), from the table `code_distances`: the mean squared
    difference of horizontal and of vertical neighbours (paper eq 6 and 7), so that E_2D of eq 8 is a row's sum.

    Raises InputError for images that are no square.
    """
    side = side_of(codes.shape[1])
    grid = codes.cpu().view(-1, side, side)
    count = side * (side - 1)
    rows = grid * len(distances)
    places = torch.empty(len(grid), 2, count, dtype=torch.long)
    torch.add(rows[:, :, 1:], grid[:, :, :-1], out=places[:, 0].view(-1, side, side - 1))
    torch.add(rows[:, 1:], grid[:, :-1], out=places[:, 1].view(-1, side - 1, side))
    return distances.view(-1).index_select(0, places.view(-1)).view(-1, 2, count).mean(2)


def smoothness(found: Tensor, tau: float, kind: Map = "inv") -> Tensor:
    """(n,) scores in (0, 1] of `energies` (n, 2), or of distances (n,): 1 / (1 + E / tau) (paper eq 9); `exp` is
    exp(-E / tau), which the original has beside it."""
    total = (found.sum(1) if found.ndim == 2 else found) / tau
    return torch.exp(-total) if kind == "exp" else 1 / (1 + total)


@torch.no_grad()
def hidden_distances(states: Tensor, codes: Tensor, projection: nn.Linear, codebook: Tensor) -> Tensor:
    """(n,) mean over an image's codes of ||W h + b - E[c]||^2 / D, PeSFT's perception loss of each image.

    states (n, S, H): the state that belongs to each code under the projection's alignment. codes (n, S).
    """
    projected = projection(states.to(projection.weight.dtype)).float()
    return (projected - codebook[codes].to(projected.device).float()).square().mean((1, 2)).cpu()
