"""Hostile files of questions. Each has a good row first and last where it can; between them lies what is wrong.

A name begins with what must become of the rows between: `bad-` they fail, `ok-` they are answered, `any-` either, and
`whole-`: the file is in such a state that its good rows may fail too.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile.pictures import noise, png, saved

FIRST, LAST = '{"id": "first", "prompt": "What is <image>?", "images": ["good.png"]}', '{"id": "last", "prompt": "b"}'
MEGABYTE = 1 << 20
KINDS: dict[str, Any] = {
    "null": None, "true": True, "int": 5, "float": 1.5, "list": [], "dict": {}, "deep": [[[]]], "ints": [1],
    "nulls": [None], "empty": "", "blank": " \n\t", "dicts": [{"path": "good.png"}], "huge": 10**2000,
}  # fmt: skip


def row(**fields: Any) -> str:
    return json.dumps({"prompt": "a", **fields})


def uri(content: bytes, kind: str = "image/png", mark: str = ";base64") -> str:
    return f"data:{kind}{mark},{base64.b64encode(content).decode()}"


def wrong_types() -> Iterator[tuple[str, str]]:
    for name, value in KINDS.items():
        yield f"bad-prompt-{name}", row(prompt=value)
        yield f"{'ok' if value in ([], None) else 'bad'}-images-{name}", row(images=value)
        fine = isinstance(value, str | float | None) or name == "int"
        yield f"{'ok' if fine else 'bad'}-id-{name}", row(id=value)
        yield f"ok-extra-{name}", row(extra=value, trust_remote_code=value)


def broken_json() -> Iterator[tuple[str, str | bytes]]:
    yield "bad-array", "[1, 2]"
    yield "bad-number", "5"
    yield "bad-text", '"prompt"'
    yield "bad-null", "null"
    yield "bad-open", '{"prompt": "a"'
    yield "bad-two", '{"prompt": "a"} {"prompt": "b"}'
    yield "bad-comma", '{"prompt": "a",}'
    yield "bad-quotes", "{'prompt': 'a'}"
    yield "bad-twice", '{"prompt": "a", "prompt": "b"}'
    yield "bad-twice-inside", '{"prompt": "a", "extra": {"x": 1, "x": 2}}'
    yield "bad-nul-byte", b'{"prompt": "a\0"}'
    yield "bad-nul-bytes", bytes(5000)
    yield "bad-control", b'{"prompt": "a\x01"}'
    yield "bad-latin-1", b'{"prompt": "\xe9"}'
    yield "bad-overlong", b'{"prompt": "\xc0\xaf"}'
    yield "bad-bytes", bytes(range(128, 256))
    yield "bad-python", "__import__('os').system('true')"
    yield "bad-digits", '{"prompt": "a", "n": ' + "9" * 5000 + "}"
    yield "bad-deep-lists", '{"prompt": "a", "x": ' + "[" * 10_000 + "]" * 10_000 + "}"
    yield "bad-deep-objects", '{"x": ' * 10_000 + "1" + "}" * 10_000
    yield "bad-deep-open", "[" * 10_000
    for depth in (200, 800, 900, 940, 980):
        yield f"bad-deep-id-{depth}", '{"prompt": "a", "id": ' + "[" * depth + "]" * depth + "}"
    yield "ok-not-a-number", '{"prompt": "a", "x": NaN, "y": -Infinity, "z": 1e999}'
    yield "ok-separators", json.dumps({"prompt": "a\u2028b\u2029c\x85d"}, ensure_ascii=False)
    yield "ok-escapes", '{"prompt": "\\u0000\\u0007\\u202e\\ufffe"}'
    yield "bad-surrogate", '{"prompt": "a \\ud800 b"}'
    yield "ok-surrogate-id", '{"prompt": "a", "id": "\\udcff"}'
    yield "bad-surrogate-path", '{"prompt": "a", "images": ["\\ud800.png"]}'


def contents() -> Iterator[tuple[str, str]]:
    good = saved(noise())
    yield "ok-data", row(images=[uri(good)])
    yield "ok-data-of-another-kind", row(images=[uri(good, "text/html")])
    yield "bad-data-text", row(images=[uri(b"no picture")])
    yield "bad-data-cut", row(images=[uri(good[:50])])
    yield "bad-data-bomb", row(images=[uri(png(50_000, 50_000))])
    yield "bad-data-empty", row(images=["data:image/png;base64,"])
    yield "bad-data-plain", row(images=[uri(good, mark="")])
    yield "bad-data-no-comma", row(images=["data:image/png;base64"])
    yield "bad-base64-letters", row(images=["data:image/png;base64,%%%%"])
    yield "bad-base64-padding", row(images=["data:image/png;base64,QUJ"])
    yield "bad-base64-unicode", row(images=["data:image/png;base64,ＱＵＪＤ"])
    yield "bad-bare-base64", row(images=[base64.b64encode(good).decode()])
    yield "bad-more-marks", row(prompt="<image><image>", images=["good.png"])
    yield "bad-marks-alone", row(prompt="<image>")
    yield "bad-fewer-marks", row(prompt="<image>", images=["good.png"] * 2)
    yield "bad-million-marks", row(prompt="<image>" * 10_000, images=[])
    yield "ok-look-alike-marks", row(prompt="<image_1> <IMAGE> <image <racm3:break><eoss></s><reserved12856>")
    yield "bad-many-images", row(images=["good.png"] * 100_000)
    yield "bad-one-bad-of-three", row(images=["good.png", "nothing.png", "good.png"])
    yield "bad-image-key", row(image="good.png")
    yield "bad-long-prompt", row(prompt="boat " * MEGABYTE)
    yield "bad-one-long-word", row(prompt="a" * MEGABYTE)
    yield "ok-longer-than-the-positions", row(prompt="a" * 2_500)
    yield "bad-long-id", row(id="x" * MEGABYTE)
    yield "bad-long-path", row(images=["\0" * MEGABYTE])
    yield "bad-long-address", row(images=["http://" + "x" * MEGABYTE])
    yield "bad-id-of-the-first", row(id="first")
    yield "ok-id-of-a-later-row", row(id="row 2")
    for name in ("../../escape", "/tmp/escape", "..", ".", "a/b", "a\0b", "con", "x" * 999, "\n\r\x1b[31m", "<script>"):
        yield f"ok-id-like-a-path-{len(name)}-{ord(name[0])}", row(id=name)


def whole_files() -> Iterator[tuple[str, bytes]]:
    both = f"{FIRST}\n{LAST}\n"
    yield "whole-empty", b""
    yield "whole-blank", b"\n \n\r\n\t\n"
    yield "whole-utf-16", both.encode("utf-16")
    yield "whole-utf-32", both.encode("utf-32")
    yield "whole-mark-first", b"\xef\xbb\xbf" + both.encode()
    yield "whole-carriage-returns", both.replace("\n", "\r").encode()
    yield "whole-gzip", b"\x1f\x8b\x08\0" + bytes(99)
    yield "whole-picture", saved(noise())
    yield "whole-pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    yield "whole-one-array", f"[{FIRST}, {LAST}]".encode()
    yield "whole-no-end", both.strip().encode()
    yield "whole-windows", both.replace("\n", "\r\n").encode()
    yield (
        "whole-ids-named-as-rows",
        b'{"prompt": ""}\n{"prompt": "a", "id": "row 1"}\n{"prompt": "b", "id": "row 2"}\n{}\n',
    )


def long_lines(folder: Path) -> None:
    """Lines of up to 100 MB, written in blocks."""

    def between(name: str, *blocks: tuple[bytes, int]) -> None:
        with open(folder / f"{name}.jsonl", "wb") as out:
            out.write(FIRST.encode() + b"\n")
            for block, times in blocks:
                for _ in range(times // 1000):
                    out.write(block * 1000)
            out.write(b"\n" + LAST.encode() + b"\n")

    with open(folder / "bad-100-mb-of-nothing.jsonl", "wb") as out:
        out.write(FIRST.encode() + b"\n")
        out.seek(100 * MEGABYTE, 1)  # sparse
        out.write(b"\n" + LAST.encode() + b"\n")
    between("bad-100-mb-of-text", (b"x" * 1000, 100_000))
    between("bad-60-mb-of-text", (b"x" * 1000, 60_000))
    between("bad-60-mb-of-objects", (b"{},", 20_000_000))
    between("bad-60-mb-of-lists", (b"[", 60_000_000))
    emoji = '{"prompt": "a", "x": "\U0001f6a2'.encode()
    with open(folder / "ok-60-mb-of-emoji.jsonl", "wb") as out:
        out.write(FIRST.encode() + b"\n" + emoji + b"x" * 60 * MEGABYTE + b'"}\n' + LAST.encode() + b"\n")


def write(folder: Path) -> list[str]:
    """Write them all beside `good.png`; their names."""
    (folder / "good.png").write_bytes(saved(noise()))
    for part in (wrong_types, broken_json, contents):
        for name, middle in part():
            line = middle.encode() if isinstance(middle, str) else middle
            (folder / f"{name}.jsonl").write_bytes(FIRST.encode() + b"\n" + line + b"\n" + LAST.encode() + b"\n")
    for name, content in whole_files():
        (folder / f"{name}.jsonl").write_bytes(content)
    long_lines(folder)
    return sorted(path.name for path in folder.glob("*.jsonl"))
