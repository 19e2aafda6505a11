"""Everything that touches the disk: images within bounds, paths that stay inside, rows with errors, durable writes."""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import http.client
import io
import ipaddress
import json
import os
import socket
import stat
import tempfile
import time
import urllib.parse
import urllib.request
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from omni_r1.errors import InputError, warn

MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 1024 * 1024  # of an image file
MAX_SCANS = 100  # of a JPEG: each is a pass over the whole picture, however few bytes it has
MAX_LINE = 64 * 1024 * 1024  # bytes of one JSONL line
MAX_VALUES = 1_000_000  # in one JSONL line: an empty object takes three bytes there and seventy in memory
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
FETCH_SECONDS = 20
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that is reached
UNICAST = ipaddress.ip_network("2000::/3")  # all that IPv6 has given out
# 6to4, which also hides an IPv4 address; and what the protocols keep to themselves, which Python takes for public.
RESERVED = [ipaddress.ip_network("2002::/16"), ipaddress.ip_network("192.0.0.0/24")]
CRC = "crc"
UNFINISHED = ".unfinished"  # ends the name of a file that is being written


def not_had(error: Exception) -> str:
    """Why a name is not to be had from the hub: the first line of what huggingface_hub raised."""
    return (str(error).strip().removeprefix("Got: ") or type(error).__name__).splitlines()[0]


def open_image(
    source: str | Path | bytes, *, root: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open and fully decode an image from a path (confined to `root` where given) or from its bytes.

    Raises InputError for a file that is missing, no image, cut off, or larger than `max_pixels` (WebP: half of them)
    by its header, which is read before anything is decoded. The rest of an animation is left alone.
    """
    name = None if isinstance(source, bytes) else source
    try:
        data = source if isinstance(source, bytes) else read_bytes(confined(root, source) if root else Path(source))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=name) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        most = max_pixels // 2 if image.format == "WEBP" else max_pixels  # its decoder holds four pictures
        if image.width * image.height > most:
            size = f"{image.width} x {image.height}"
            raise InputError(f"an image of {size} pixels, more than {most:,} in all", file=name)
        if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
            raise InputError(f"a JPEG of more than {MAX_SCANS} scans", file=name)
        image.load()
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"an image of too many pixels: {error}", file=name) from error
    except Exception as error:  # Pillow's readers raise whatever they stumble on: IndexError, struct.error, TypeError
        reason = "is no image" if isinstance(error, Image.UnidentifiedImageError) else f"is a damaged image: {error}"
        raise InputError(reason, file=name) from error
    return image


def fetch(address: str) -> bytes:
    """What lies at an http(s) address on the public network, at most `MAX_BYTES` of it.

    Raises InputError for private addresses, also behind a redirect, and for whatever goes wrong on the way.
    """
    opener = urllib.request.build_opener(_PublicOnly, _Http, _Https)
    content, deadline = bytearray(), time.monotonic() + FETCH_SECONDS
    try:
        _refuse_private(address)
        with opener.open(address, timeout=FETCH_SECONDS) as reply:
            while len(content) <= MAX_BYTES and (part := reply.read1(1 << 20)):
                content += part
                if time.monotonic() > deadline:  # the timeout is between two bytes only
                    raise TimeoutError(f"not done after {FETCH_SECONDS} s")
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        raise InputError(f"cannot be fetched: {error}", file=address) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"has more than {MAX_BYTES:,} bytes", file=address)
    return bytes(content)


class _PublicOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _refuse_private(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req):
        return self.do_open(
            http.client.HTTPConnection if req.has_proxy() else _guarded(http.client.HTTPConnection), req
        )


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req):
        proxied = req.has_proxy() or req._tunnel_host  # a proxy stands in the private network, and resolves by itself
        return self.do_open(http.client.HTTPSConnection if proxied else _guarded(http.client.HTTPSConnection), req)


def _guarded(kind: Any) -> Any:
    """The kind of connection, made to the very address found to be public: asked again, a name may give another."""

    def connect(place: tuple[str, int], *options: Any) -> socket.socket:
        for address in (found := _public(*place)):
            try:
                return socket.create_connection((address, place[1]), *options)
            except OSError:
                if address == found[-1]:
                    raise
        raise OSError(f"{place[0]} has no address")

    def connection(host: str, **options: Any) -> Any:
        made = kind(host, **options)
        made._create_connection = connect
        return made

    return connection


def _refuse_private(address: str) -> None:
    """Raise ValueError unless every address of the host is public."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no http or https address")
    _public(parts.hostname, parts.port or 80)


def _public(host: str, port: int) -> list[str]:
    """The numeric addresses of a host. Raises ValueError where one of them is not on the public network."""
    found = [str(where[0]).partition("%")[0] for *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        number = ipaddress.ip_address(text)
        if isinstance(number, ipaddress.IPv6Address) and (number.ipv4_mapped or number in NAT64):
            number = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        strange = (number.version == 6 and number not in UNICAST) or any(number in network for network in RESERVED)
        if strange or number.is_multicast or not number.is_global:
            raise ValueError(f"{host} is in a private network")
    return found


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """A regular file's content. Raises InputError for one of more than `most` bytes, a pipe, a device or a folder."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError("is no regular file", file=path)
    if path.stat().st_size > most:
        raise InputError(f"has more than {most:,} bytes", file=path)
    return path.read_bytes()


def sha256(path: Path) -> str:
    """Of a file's content, however large. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error


def confined(root: str | Path, path: str | Path) -> Path:
    """`path` resolved under `root`. Raises InputError where it leaves `root`, links followed, or is no plain path."""
    text = os.fspath(path)
    if not text or "\0" in text or "://" in text or "\\" in text or text.lower().startswith(("file:", "~")):
        raise InputError(f"{text[:200]!r} is not a plain relative path", field="path")
    base = Path(root).resolve()
    try:
        resolved = (base / text).resolve()
        if not resolved.is_relative_to(base):
            raise InputError(f"{text[:200]!r} leaves the data root {base}", field="path")
        if resolved.exists() and not (resolved.is_file() or resolved.is_dir()):
            raise InputError(f"{text[:200]!r} is no regular file", field="path")
    except (OSError, RuntimeError, ValueError) as error:  # name too long, a loop of links, no encodable name
        raise InputError(f"{text[:80]!r} cannot be resolved: {type(error).__name__}", field="path") from error
    return resolved


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} occurs twice")
    return out


def parse_line(line: bytes) -> dict[str, Any]:
    """One JSONL line as a dict. Raises ValueError in words."""
    try:
        if line.count(b",") + line.count(b"[") + line.count(b"{") > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:  # its own words count lines, and this is one
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError(f"a row is an object, not {type(row).__name__}")
    return row


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Rows of a JSONL file with their line numbers from 1; a malformed line comes as its InputError, reading goes on.

    Blank lines are no rows. Raises InputError where the file itself cannot be read.
    """
    try:
        lines = open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    with lines:
        number = 0
        while line := lines.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while rest := lines.readline(MAX_LINE):
                    if rest.endswith(b"\n"):
                        break
                yield number, InputError(f"a line of more than {MAX_LINE:,} bytes", file=path, row=number)
            elif line.strip():
                try:
                    yield number, parse_line(line)
                except ValueError as error:
                    yield number, InputError(f"malformed JSON: {error}", file=path, row=number)


def data_uri(text: str) -> bytes:
    """The content of a `data:...;base64,` URI. Raises InputError for any other text."""
    head, comma, body = text.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise InputError(f"{text[:40]!r}... is no base64 data URI")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"is no base64: {error}") from error


def whole_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file that this project wrote. Raises InputError for the first that is damaged."""
    for _, row in read_jsonl(path):
        if isinstance(row, InputError):
            raise row
        yield row


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever the system refuses meanwhile becomes an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=path) from error


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.

    Raises InputError naming the file where the system refuses. A process that is killed may leave the temporary file
    behind; `remove_unfinished` takes it away.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
        try:
            try:
                _write(handle, data)
            finally:
                os.close(handle)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """What was written to a file, or into a folder, is on disk on return."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    """All of `data`, on disk on return. No buffer: what the disk refuses must not be tried again when a file closes."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed calls of `write_atomic` left in a folder and in those right below it."""
    for pattern in (f".*{UNFINISHED}", f"*/.*{UNFINISHED}"):
        for file in folder.glob(pattern):
            file.unlink()


def _sum(row: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row, sort_keys=True, allow_nan=False).encode()):08x}"


def undamaged(row: dict[str, Any]) -> bool:
    """Whether a row is as it was written; one that came without a checksum may be anything."""
    return CRC not in row or row[CRC] == _sum({key: value for key, value in row.items() if key != CRC})


def _line(row: dict[str, Any]) -> str:
    return json.dumps({**row, CRC: _sum(row)}, sort_keys=True) + "\n"


def _lock(file: io.FileIO, path: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError("is being written by another process", file=path) from None
    except OSError as error:  # a file system without locks
        warn(f"{path}: cannot be locked ({error.strerror}): start no other run in this folder")


def check_unused(log: Path) -> None:
    """Raises InputError where another process has the AppendLog `log` open; there may be none."""
    if log.is_file():
        with writing(log), open(log, "ab", buffering=0) as file:
            _lock(file, log)


class AppendLog:
    """An append-only JSONL file: each row is on disk before `append` returns, with a checksum in its key `crc`.

    Opening reads the rows that are there (`rows`, without `crc`). A last line that was cut off is dropped from the
    file; a damaged line before it raises InputError. So does a file that cannot be read or written, or that another
    process has open: each would write what the other does not know of.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self._open()
        good = self._read()
        with writing(self.path):
            os.ftruncate(self._file.fileno(), good)

    def _open(self) -> None:
        with writing(self.path):
            self._file = open(self.path, "a+b", buffering=0)
        _lock(self._file, self.path)

    def _read(self) -> int:
        """Fill `rows`; the number of bytes that hold whole rows. Read by the open file: closing another of the same
        file would give up the lock."""
        try:
            self._file.seek(0)
            data, good = self._file.readall(), 0
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file=self.path) from error
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            whole = line.endswith(b"\n")
            try:
                row = parse_line(line)
                if CRC not in row or not undamaged(row):
                    raise ValueError("checksum does not match")
                del row[CRC]
            except ValueError as error:
                if good + len(line) == len(data) and not whole:
                    break
                raise InputError(f"damaged row: {error}", file=self.path, row=number) from error
            if not whole:
                break
            self.rows.append(row)
            good += len(line)
        return good

    def append(self, row: dict[str, Any]) -> None:
        with writing(self.path):
            _write(self._file.fileno(), _line(row).encode())
        self.rows.append(row)

    def rewrite(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace all rows, whole or not at all."""
        write_atomic(self.path, "".join(_line(row) for row in rows))
        self._file.close()
        self._open()
        self.rows = list(rows)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "AppendLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
