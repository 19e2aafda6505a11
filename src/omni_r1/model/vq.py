"""The picture side of Chameleon: pixels to codes (upstream's encoder) and codes to pixels (the decoder here).

Upstream transformers ships no decoder, so a stock checkpoint can look but not draw. `VQDecoder` is built from
upstream's own residual and attention blocks, which fixes its tensor names to the published ones.

Shape letters: n images, S codes per image, R resolution, h w code grid (S = h * w).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig
from transformers.models.chameleon.modeling_chameleon import (
    ChameleonVQVAEEncoderAttnBlock,
    ChameleonVQVAEEncoderResnetBlock,
)

from omni_r1.pixels import square

PIXEL_SCALE = 0.0078  # of the published preprocessor: x * 0.0078 - 1, not exactly 2 / 255
VQ = Any  # upstream's ChameleonVQVAE with a `decoder` attached, which its class does not know of
IMAGES_AT_ONCE = 8


class Upsample(nn.Module):
    """Nearest neighbour times two, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """One resolution of the decoder: blocks, each with attention where the config asks for it, then upsampling."""

    def __init__(
        self, config: ChameleonVQVAEConfig, channels_in: int, channels: int, *, attention: bool, upsample: bool
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * config.num_res_blocks  # one block more than the encoder has
        self.block = nn.ModuleList(ChameleonVQVAEEncoderResnetBlock(config, width, channels) for width in widths)
        self.attn = nn.ModuleList(ChameleonVQVAEEncoderAttnBlock(channels) for _ in widths if attention)
        self.upsample = Upsample(channels) if upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return self.upsample(x)


class VQDecoder(nn.Module):
    """Quantised latents (n, latent_channels, h, w) to pixels (n, 3, R, R) in about [-1, 1].

    Structure, order and names as in the published checkpoints (checkpoint contract): `conv_in`, `mid`, `up.4` down
    to `up.0`, `norm_out`, `conv_out`.
    """

    def __init__(self, config: ChameleonVQVAEConfig) -> None:
        super().__init__()
        levels = len(config.channel_multiplier)
        vanilla = config.attn_type == "vanilla"
        widths = [config.base_channels * multiplier for multiplier in config.channel_multiplier]
        top = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, top, 3, padding=1)
        self.mid: Any = nn.Module()
        self.mid.block_1 = ChameleonVQVAEEncoderResnetBlock(config, top, top)
        self.mid.attn_1 = ChameleonVQVAEEncoderAttnBlock(top) if vanilla else nn.Identity()
        self.mid.block_2 = ChameleonVQVAEEncoderResnetBlock(config, top, top)
        self.up = nn.ModuleList(
            Level(
                config,
                channels_in=widths[min(i + 1, levels - 1)],
                channels=widths[i],
                attention=vanilla and config.resolution // 2**i in (config.attn_resolutions or ()),
                upsample=i > 0,
            )
            for i in range(levels)
        )
        self.norm_out = nn.GroupNorm(32, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.conv_in(latents)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        for level in reversed(self.up):
            x = level(x)
        x = self.norm_out(x)
        return self.conv_out(x * torch.sigmoid(x))


def codes_to_pixels(vq: VQ, codes: Tensor) -> Tensor:
    """Codes (n, S) in row-major order, to unclipped pixels (n, 3, R, R). Differentiable in the decoder."""
    side = int(codes.shape[1] ** 0.5)
    latents = vq.quantize.embedding(codes).unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return vq.decoder(vq.post_quant_conv(latents.contiguous()))


def pixels_to_codes(vq: VQ, pixels: Tensor) -> Tensor:
    """Pixels (n, 3, R, R) as `to_pixels` makes them, to codes (n, S)."""
    return vq.encode(pixels).image_tokens.view(pixels.shape[0], -1)


@contextmanager
def full_precision(vq: VQ) -> Iterator[None]:
    """fp32 and nothing less, also under autocast and where cuDNN would take TF32: in bf16 one id in ten changes."""
    with torch.autocast(vq.device.type, enabled=False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@torch.no_grad()
def encode_images(vq: VQ, images: Sequence[Image.Image], at_once: int = IMAGES_AT_ONCE) -> Tensor:
    """PIL images to codes (n, S) on the CPU."""
    parts = [torch.empty(0, code_count(vq.config), dtype=torch.long)]
    with full_precision(vq):
        for start in range(0, len(images), at_once):
            pixels = to_pixels(images[start : start + at_once], vq.config.resolution, start + 1)
            parts.append(pixels_to_codes(vq, pixels.to(vq.device)).cpu())
    return torch.cat(parts)


@torch.no_grad()
def decode_codes(vq: VQ, codes: Tensor) -> list[Image.Image]:
    """Codes (n, S) to PIL images of R x R pixels."""
    images: list[Image.Image] = []
    with full_precision(vq):
        for part in codes.to(vq.device).split(IMAGES_AT_ONCE):
            images += to_images(codes_to_pixels(vq, part))
    return images


def digest(vq: VQ) -> str:
    """sha256 of all that decides the codes of an image: encoder, quant_conv, codebook, and the resolution."""
    summed = hashlib.sha256(f"resolution {vq.config.resolution}\n".encode())
    for name, tensor in sorted(vq.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.", "quantize.embedding.")):
            summed.update(f"{name} {list(tensor.shape)}\n".encode())
            summed.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return summed.hexdigest()


def code_count(config: ChameleonVQVAEConfig) -> int:
    """S, the number of codes of one image."""
    return (config.resolution // 2 ** (len(config.channel_multiplier) - 1)) ** 2


def to_pixels(images: Sequence[Image.Image], resolution: int, first: int = 1) -> Tensor:
    """PIL images to (n, 3, R, R) fp32: RGB on white, short side to R (Lanczos), centre crop, x * 0.0078 - 1.

    Raises InputError naming the image, counted from `first`, that cannot be RGB or is more than 64 times as long as
    wide.
    """
    squares = [np.asarray(square(image, resolution, number)) for number, image in enumerate(images, first)]
    scaled = (np.stack(squares).astype(np.float64) * PIXEL_SCALE).astype(np.float32) - 1.0
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pixels (n, 3, R, R) to PIL images: clip((x + 1) / 0.0078, 0, 255), truncated as the original does."""
    values = ((pixels.float() + 1.0) / PIXEL_SCALE).clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(value) for value in values.permute(0, 2, 3, 1).cpu().numpy()]
