import io
import json
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from omni_r1 import files
from omni_r1.errors import InputError
from omni_r1.files import AppendLog, check_unused, confined, open_image, read_jsonl, write_atomic


def encoded(format="PNG", size=(24, 24), mode="RGB"):
    noise = Image.frombytes(mode, size, random.Random(0).randbytes(size[0] * size[1] * len(mode)))
    out = io.BytesIO()
    noise.save(out, format)
    return out.getvalue()


def png_header(width, height):
    def chunk(name, body):
        return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_open_image(tmp_path, format):
    data = encoded(format)
    (tmp_path / "a").write_bytes(data)
    for image in (open_image(data), open_image(tmp_path / "a"), open_image("a", root=tmp_path)):
        assert image.convert("RGB").size == (24, 24)
    (tmp_path / "a").unlink()
    assert image.convert("RGB").getpixel((3, 3))  # fully loaded


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"not an image at all\n" * 9,
        encoded()[:60],
        encoded()[:-60],
        encoded("JPEG")[:200],
        png_header(50_000, 50_000),
        png_header(9_000, 9_000),
        png_header(0, 5),
    ],
    ids=["empty", "nul", "text", "png begun", "png cut", "jpeg begun", "too large", "large", "no width"],
)
def test_what_is_no_image(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match="x.png"):
        open_image(tmp_path / "x.png")
    with pytest.raises(InputError):
        open_image(data)


def test_a_huge_header_is_refused_at_once():
    begin = time.perf_counter()
    with pytest.raises(InputError):
        open_image(png_header(50_000, 50_000))
    assert time.perf_counter() - begin < 0.1
    with pytest.raises(InputError):
        open_image(encoded(), max_pixels=24 * 24 - 1)
    assert open_image(encoded(), max_pixels=24 * 24).size == (24, 24)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_bytes_raise_nothing_else(format):
    data = encoded(format)
    for place in range(0, len(data), max(1, len(data) // 150)):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]):
            try:
                open_image(damaged)
            except InputError:
                pass


def test_what_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "fifo", Path("/dev/zero"), "a\0b"):
        with pytest.raises(InputError):
            open_image(path)
    with pytest.raises(InputError):
        open_image("../x.png", root=tmp_path)


def test_confined(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    assert confined(tmp_path, "in/a.png") == (tmp_path / "in" / "a.png").resolve()
    assert confined(tmp_path, "in/../in/./a.png") == (tmp_path / "in" / "a.png").resolve()
    assert confined(tmp_path, "in/new name …") == (tmp_path / "in" / "new name …").resolve()


def rows(path):
    return list(read_jsonl(path))


def test_read_jsonl_goes_on(tmp_path):
    lines = [b'{"a": 1}', b"{", b"[1]", b"", b'{"a": 1, "a": 2}', b'"x"', b"\xff", b"[" * 100_000, b'{"b": "\xc3\xa9"}']
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    read = rows(path)
    good = [(number, row) for number, row in read if isinstance(row, dict)]
    bad = [(number, row) for number, row in read if isinstance(row, InputError)]
    assert good == [(1, {"a": 1}), (9, {"b": "é"})]
    assert [number for number, _ in bad] == [2, 3, 5, 6, 7, 8]
    assert all(error.row == number and str(error.file) == str(path) for number, error in bad)


def test_read_jsonl_bounds_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 64)
    path = tmp_path / "rows.jsonl"
    for length in range(60, 70):
        path.write_bytes(b'{"a": "' + b"x" * (length - 9) + b'"}' + b'\n{"b": 1}\n')
        read = rows(path)
        assert [number for number, _ in read] == [1, 2] and read[1] == (2, {"b": 1})
        assert isinstance(read[0][1], dict) == (length < 64), length


def test_read_jsonl_of_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            rows(path)
    (tmp_path / "empty").write_bytes(b"")
    assert rows(tmp_path / "empty") == []


def test_write_atomic(tmp_path):
    path = tmp_path / "x"
    write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\0")
    assert path.read_bytes() == b"\0"
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_bytes() == b"\0" and os.listdir(tmp_path) == ["x"]


ROWS = [{"id": "a", "text": "é\u2028\r\n", "n": [1, 2.5, None]}, {"id": "b"}, {"id": "c", "x": {"y": True}}]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        for row in ROWS:
            log.append(row)
    return path


def reopened(path):
    with AppendLog(path) as log:
        return log.rows


def test_append_log(log):
    assert reopened(log) == ROWS
    with AppendLog(log) as again:
        again.append({"id": "d"})
        assert again.rows == [*ROWS, {"id": "d"}]
    assert reopened(log) == [*ROWS, {"id": "d"}]


def test_append_log_is_plain_jsonl(log):
    read = [row for _, row in read_jsonl(log)]
    assert [{key: value for key, value in row.items() if key != "crc"} for row in read] == ROWS
    with AppendLog(log) as again, pytest.raises(ValueError):
        again.append({"loss": float("nan")})  # no JSON
    assert reopened(log) == ROWS


def test_a_log_is_written_by_one_process(log):
    hold = "import sys; from omni_r1.files import AppendLog; log = AppendLog(sys.argv[1]); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(log)]
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout and other.stdout.readline()
        for attempt in (AppendLog, check_unused):
            with pytest.raises(InputError, match="log.jsonl: is being written by another process"):
                attempt(log)
        other.kill()
    check_unused(log)
    with AppendLog(log) as mine, AppendLog(log):  # by as many in one process as like
        mine.rewrite(mine.rows)
    assert reopened(log) == ROWS


def test_append_log_at_every_torn_length(log):
    whole = log.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole)):
        log.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends)
        with AppendLog(log) as again:
            assert again.rows == ROWS[:kept]
            again.append({"id": "new"})
        assert reopened(log) == [*ROWS[:kept], {"id": "new"}]


def test_append_log_notices_flipped_bits(log):
    whole = log.read_bytes()
    for place in range(len(whole) - 1):
        flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        log.write_bytes(flipped)
        try:
            with AppendLog(log) as again:
                assert again.rows == ROWS, place  # of equal meaning: one kind of white space for another
        except InputError as error:
            assert str(log) in str(error)


def test_append_log_is_on_disk_when_append_returns(log, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    with AppendLog(log) as again:
        again.append({"id": "d"})
        assert synced[-1] == log.stat().st_size
    assert json.loads(log.read_text().splitlines()[-1])["id"] == "d"
