"""What real step images look like as codes, learned from them, so that neither a flat image nor noise scores well.

The paper's smoothness (eq 9) is highest for an image of one code. A band says instead where the energies of real step
images lie, and how usual their codes are, and an image loses by what it is off on either side.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeGuard

import torch
from torch import Tensor

from omni_r1.errors import InputError
from omni_r1.perpo.reward.perception import code_distances, energies

STATISTICS = ("horizontal", "vertical", "surprise")
OUTSIDE = 0.01  # share of the images it is learned from that lies outside on each side
NARROWEST = 0.05  # of the upper limit: a scale where all images are alike


def codebook_digest(codebook: Tensor) -> str:
    """sha256 of a codebook (K, D) in fp32."""
    summed = hashlib.sha256(f"{list(codebook.shape)}\n".encode())
    summed.update(codebook.detach().cpu().float().contiguous().numpy().tobytes())
    return summed.hexdigest()


@dataclass(frozen=True)
class Limits:
    """Where a statistic of real images lies, and how far above it an image has lost all but 1/e of its score."""

    low: float
    high: float
    scale: float


@dataclass(frozen=True)
class Band:
    """Limits of three statistics of an image: E_h / D, E_v / D, and its surprise, the mean over its codes of -log of
    the code's share among real images. Energies alone do not see an image that is half flat and half noise.

    counts (K,): how often each code came in the `images` it was learned from. digest: of their codebook.
    """

    horizontal: Limits
    vertical: Limits
    surprise: Limits
    counts: tuple[int, ...]
    images: int
    digest: str

    @classmethod
    def learn(cls, codes: Tensor, codebook: Tensor) -> "Band":
        """From real step images as codes (n, S) of a codebook (K, D). Raises InputError where there is none."""
        if not len(codes):
            raise InputError("there are no images to learn a band from", field="codes")
        counts = torch.bincount(codes.flatten(), minlength=len(codebook))
        rarity = rarities(counts)
        found = torch.cat([energies(codes, code_distances(codebook)), surprise(codes, rarity)], 1)
        low, quarter, three, high = torch.quantile(
            found.double(), torch.tensor([OUTSIDE, 0.25, 0.75, 1 - OUTSIDE], dtype=torch.double), dim=0
        )
        scale = torch.maximum(three - quarter, NARROWEST * high).clamp(min=1e-6)
        across, down, odd = (Limits(*each) for each in zip(low.tolist(), high.tolist(), scale.tolist(), strict=True))
        return cls(across, down, odd, tuple(counts.tolist()), len(codes), codebook_digest(codebook))

    def score(self, codes: Tensor, found: Tensor) -> Tensor:
        """(n,) in [0, 1] of images as codes (n, S) with their `energies` (n, 2): that of the worst statistic.

        1 between the limits, x / low below them, exp(-(x - high) / scale) above.
        """
        x = torch.cat([found, surprise(codes, self._rarity)], 1)
        limits = [getattr(self, name) for name in STATISTICS]
        low, high, scale = torch.tensor([[each.low, each.high, each.scale] for each in limits]).T
        inside = torch.exp(-(x - high).clamp(min=0) / scale)
        return torch.where(x < low, x / low, inside).amin(1)

    @cached_property
    def _rarity(self) -> Tensor:
        return rarities(torch.tensor(self.counts))

    def check(self, codebook: Tensor) -> None:
        """Raises InputError where the band is of another codebook."""
        if len(self.counts) != len(codebook) or self.digest != codebook_digest(codebook):
            raise InputError("was learned with another codebook than this checkpoint's", field="band")

    def to_json(self) -> dict[str, Any]:
        limits = {name: asdict(getattr(self, name)) for name in STATISTICS}
        return {**limits, "counts": list(self.counts), "images": self.images, "digest": self.digest}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Band":
        """The inverse of `to_json`. Raises InputError naming the field at fault."""
        across, down, odd = (_limits(name, data.get(name)) for name in STATISTICS)
        counts, images, digest = (data.get(name) for name in ("counts", "images", "digest"))
        if not isinstance(counts, list) or not counts or not all(map(_whole, counts)):
            raise InputError("must be a list of whole numbers from 0", field="counts")
        if not _whole(images) or not images:
            raise InputError("must be a whole number from 1", field="images")
        if not isinstance(digest, str):
            raise InputError("must be text", field="digest")
        return cls(across, down, odd, tuple(counts), images, digest)


def _limits(name: str, data: object) -> Limits:
    if not isinstance(data, dict) or set(data) != {"low", "high", "scale"} or not all(map(_real, data.values())):
        raise InputError("must have three numbers from 0: low, high and scale", field=name)
    if data["low"] > data["high"] or not data["scale"]:
        raise InputError("low must not be above high, nor scale 0", field=name)
    return Limits(**{key: float(value) for key, value in data.items()})


def rarities(counts: Tensor) -> Tensor:
    """(K,) -log of the share of each code, counted once more than it came."""
    return -((counts + 1) / (counts.sum() + len(counts))).log()


def surprise(codes: Tensor, rarity: Tensor) -> Tensor:
    """(n, 1) mean over the codes of images (n, S)."""
    return rarity.index_select(0, codes.cpu().flatten()).view(codes.shape).mean(1, keepdim=True)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
