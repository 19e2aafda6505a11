"""Hostile picture files, made here and nowhere stored. A name begins with what must become of the file:

`ok-` it is read, `bad-` it is refused, `any-` either will do.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

FORMATS = {"PNG": {}, "JPEG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}}
CUTS = (0.02, 0.2, 0.5, 0.8, 0.97)
SIDE = 8000  # SIDE x SIDE is the most that is read
CANARY = (201, 37, 149)  # the colour of what lies outside every root


def noise(width: int = 24, height: int = 16) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes, crc: int | None = None, length: int | None = None) -> bytes:
    crc = zlib.crc32(name + body) if crc is None else crc
    return struct.pack(">I", len(body) if length is None else length) + name + body + struct.pack(">I", crc)


def png(width: int, height: int, *middle: bytes, depth: int = 8, kind: int = 2, crc: int | None = None) -> bytes:
    """A PNG of a header and chunks; by default with far too little data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0), crc)
    body = b"".join(middle) or chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def scanlines(width: int, height: int, bytes_per_pixel: int = 3) -> bytes:
    return chunk(b"IDAT", zlib.compress(b"\0" * height * (1 + width * bytes_per_pixel)))


def tiff(tags: dict[int, tuple[int, int, int]], next_directory: int = 0) -> bytes:
    """A little-endian TIFF of one directory and some bytes of pixels behind it: tag -> (type, count, value)."""
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_directory) + b"\0" * 64


def tiff_tags(width: int, height: int, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, min(width * height, 1 << 31))}
    return tags | {int(name[1:]): value for name, value in more.items()}


def damaged() -> Iterator[tuple[str, bytes]]:
    for format, options in FORMATS.items():
        whole = saved(noise(), format, **options)
        name = format.lower()
        for cut in CUTS:
            yield f"any-{name}-cut-at-{cut}.{name}", whole[: int(len(whole) * cut)]
        middle = len(whole) // 2
        yield f"any-{name}-zeros.{name}", whole[: middle - 20] + b"\0" * 40 + whole[middle + 20 :]
        yield f"any-{name}-ones.{name}", whole[:24] + b"\xff" * 8 + whole[32:]
        yield f"any-{name}-junk-behind.{name}", whole + b"\xff\xda\0" * 400
        yield f"bad-{name}-without-its-head.{name}", whole[16:]


def strange() -> Iterator[tuple[str, bytes]]:
    """Files that are as they should be, however rare."""
    base = noise()
    for format, options in FORMATS.items():
        yield f"ok-one-pixel-{format.lower()}.png", saved(Image.new("RGB", (1, 1)), format, **options)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        yield f"ok-png-{mode.replace(';', '')}.png", saved(base.convert("L").convert(mode), "PNG")
    yield "ok-cmyk.jpg", saved(base.convert("CMYK"), "JPEG")
    yield "ok-cmyk.tif", saved(base.convert("CMYK"), "TIFF")
    yield "ok-ycbcr.tif", saved(base.convert("YCbCr"), "TIFF")
    yield "ok-float.tif", saved(base.convert("F"), "TIFF")
    yield "ok-nan.tif", saved(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF")
    yield "any-lab.tif", saved(Image.merge("LAB", base.split()), "TIFF")
    paletted = base.quantize(16)
    yield "ok-palette-transparency.png", saved(paletted, "PNG", transparency=bytes(range(16)))
    yield "ok-grey-transparency.png", saved(base.convert("L"), "PNG", transparency=7)
    yield "ok-rgb-transparency.png", saved(base, "PNG", transparency=(1, 2, 3))
    for orientation in (*range(1, 9), 99):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"ok-turned-{orientation}.jpg", saved(base, "JPEG", exif=exif)
    yield "any-exif-of-nothing.jpg", saved(base, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x69\x87" * 99)
    frames = [Image.new("RGB", (64, 64), (k, 255 - k, 0)) for k in range(200)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        content = saved(frames[0], format, save_all=True, append_images=frames[1:])
        yield f"ok-animated-{format.lower()}.gif", content
    yield "ok-progressive.jpg", saved(base, "JPEG", progressive=True)
    yield (
        "ok-profile.png",
        saved(base, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("evil.py", "print('no')")
    yield "ok-also-a-zip.png", saved(base, "PNG") + archive.getvalue()
    yield "ok-also-a-page.gif", saved(base, "GIF") + b"<script>alert(1)</script>"
    yield "ok-named-wrongly.jpg", saved(base, "PNG")
    yield "ok-no-ending", saved(base, "WEBP")


def not_pictures() -> Iterator[tuple[str, bytes]]:
    base = saved(noise())
    yield "bad-empty.png", b""
    yield "bad-one-byte.png", b"\x89"
    yield "bad-zeros.png", bytes(4096)
    yield "bad-text.png", b"a picture of a boat\n" * 99
    yield "bad-page.png", b"<html><img src=file:///etc/passwd></html>"
    yield "bad-vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield "bad-postscript.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"
    yield "bad-paper-first.jpg", b"%PDF-1.7\n" + base
    yield "bad-icon.ico", saved(noise(16, 16), "ICO")
    yield "bad-targa.tga", saved(noise(), "TGA")
    yield "bad-pickle.png", pickle.dumps({"a": 1})
    yield (
        "bad-array.npy",
        b"\x93NUMPY\x01\0" + b"v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + bytes(60),
    )


def bombs() -> Iterator[tuple[str, bytes]]:
    """A few bytes that ask for gigabytes or minutes."""
    yield "bad-huge.png", png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(500_000))))
    yield (
        "bad-huge-whole.png",
        png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(40_000_000), 1)), depth=1, kind=0),
    )
    yield "bad-widest.png", png((1 << 31) - 1, (1 << 31) - 1)
    yield "bad-no-width.png", png(0, 5)
    yield "bad-just-above.png", png(SIDE, SIDE + 1)
    jpeg, gif, bmp = (bytearray(saved(noise(), format)) for format in ("JPEG", "GIF", "BMP"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = b"\xff\xdc\xff\xdc"
    yield "bad-huge.jpg", bytes(jpeg)
    gif[6:10] = b"\xff\xff\xff\xff"
    yield "bad-huge.gif", bytes(gif)
    frame = bytearray(saved(noise(), "GIF"))
    place = frame.index(b",", 13)
    frame[place + 5 : place + 9] = b"\xff\xff\xff\xff"  # a frame larger than the screen it is in
    yield "any-huge-frame.gif", bytes(frame)
    for name, size in (("huge", (50_000, 50_000)), ("upside-down", (50_000, -50_000)), ("negative", (-9, 9))):
        bmp[18:26] = struct.pack("<ii", *size)
        yield f"bad-{name}.bmp", bytes(bmp)
    yield "bad-huge.tif", tiff(tiff_tags(50_000, 50_000))
    yield (
        "any-tiles.tif",
        tiff(tiff_tags(64, 64, t322=(4, 1, 1 << 20), t323=(4, 1, 1 << 20), t324=(4, 1, 8), t325=(4, 1, 64))),
    )
    yield "any-tag-count.tif", tiff(tiff_tags(8, 8, t270=(2, (1 << 32) - 1, 8)))
    yield "any-directory-loop.tif", tiff(tiff_tags(8, 8), next_directory=8)
    yield "any-fraction.tif", tiff(tiff_tags(8, 8, t256=(11, 1, 0x41000000), t277=(11, 1, 0x3F800000)))
    yield "any-samples.tif", tiff(tiff_tags(8, 8, t277=(3, 1, 60_000)))
    for name, kind in (("text", b"zTXt"), ("profile", b"iCCP")):
        bomb = chunk(kind, b"x\0\0" + zlib.compress(bytes(100_000_000), 1))
        yield f"any-{name}-bomb.png", png(2, 2, bomb, scanlines(2, 2))
    yield "any-texts.png", png(2, 2, *[chunk(b"tEXt", b"k%d\0" % k + bytes(900)) for k in range(2000)], scanlines(2, 2))
    yield "any-too-much-data.png", png(2, 2, chunk(b"IDAT", zlib.compress(bytes(100_000_000), 1)))
    yield "bad-header-sum.png", png(2, 2, scanlines(2, 2), crc=1)
    yield "any-data-sum.png", png(2, 2, chunk(b"IDAT", zlib.compress(bytes(14)), crc=1))
    yield "any-chunk-length.png", png(2, 2, chunk(b"IDAT", zlib.compress(bytes(14)), length=(1 << 31) - 1))
    yield "any-two-headers.png", png(2, 2, png(50_000, 50_000)[8:33], scanlines(2, 2))
    yield "bad-scans.jpg", many_scans()
    flat = Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 128))
    yield "ok-largest-rgba.png", saved(flat, "PNG", compress_level=1)
    yield "ok-largest-bits.png", saved(Image.new("1", (SIDE, SIDE)), "PNG")
    yield "ok-largest-palette.png", saved(Image.new("P", (SIDE, SIDE)), "PNG", transparency=b"\x80")
    yield "ok-largest-cmyk.jpg", saved(Image.new("CMYK", (SIDE, SIDE)), "JPEG")
    yield "bad-large.webp", saved(Image.new("RGB", (16_000, 2_001)), "WEBP", method=0, quality=1)
    yield "bad-strip.png", saved(Image.new("L", (60_000, 2)), "PNG")


def many_scans(count: int = 1000, side: int = 4096) -> bytes:
    """A progressive JPEG that paints the same emptiness over and over."""
    whole = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def write(folder: Path) -> list[str]:
    """Write them all; their names."""
    files = {name: content for part in (damaged, strange, not_pictures, bombs) for name, content in part()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return list(files)
