"""What the model sees of a picture: a square of it, RGB on white. Apart from the VQ, for processes without torch."""

import numpy as np
from PIL import Image

from omni_r1.errors import InputError

MAX_ASPECT = 64  # the short side is scaled to R, so the long side of a strip would grow without bound
STRIP = 1 << 18  # pixels blended together, so that a picture of 64 Mpx does not take gigabytes on the way
_ALPHA = np.arange(256)[:, None] / 255.0
ON_WHITE = ((1 - _ALPHA) * 255 + _ALPHA * np.arange(256)).astype(np.uint8).ravel()  # at 256 * alpha + value


def square(image: Image.Image, resolution: int, number: int = 1) -> Image.Image:
    """All that the model sees of an image, (R, R) RGB; of such a square it is the same again.

    Raises InputError naming the image by its number, as `to_pixels` does.
    """
    if not isinstance(image, Image.Image):
        raise InputError(f"image {number} is no PIL image but {type(image).__name__}")
    try:
        return _square(opaque(image), resolution)
    except (ValueError, OSError) as error:
        raise InputError(f"image {number} cannot be used: {error}") from error


def opaque(image: Image.Image) -> Image.Image:
    """RGB, transparent parts blended on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    out = Image.new("RGB", image.size)
    height = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        rgba = np.asarray(strip.convert("RGBA"))
        blended = np.take(ON_WHITE, (rgba[:, :, 3:].astype(np.intp) << 8) | rgba[:, :, :3])
        out.paste(Image.fromarray(blended), (0, top))
    return out


def _square(image: Image.Image, resolution: int) -> Image.Image:
    """The centre of the image after its short side became R."""
    short, long = sorted(image.size)
    if long > MAX_ASPECT * short:
        raise ValueError(f"{image.width} x {image.height} pixels is more than {MAX_ASPECT} times as long as wide")
    width, height = (resolution if side == short else int(resolution * long / short) for side in image.size)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + resolution, top + resolution))
