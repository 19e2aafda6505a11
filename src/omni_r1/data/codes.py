"""Pictures to codes, once: kept in sqlite by picture and VQ, decoded by worker processes, encoded in batches."""

import hashlib
import multiprocessing
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from omni_r1.data.seeing import end_with_parent, see
from omni_r1.errors import InputError, OmniError
from omni_r1.model import Omni
from omni_r1.model.vq import digest, encode_images

Codes = tuple[int, ...]
AHEAD = 4  # pictures decoded ahead for each worker, so that it need not wait while a batch is encoded


class CodeCache:
    """Codes by the sha256 of a picture's file and the digest of the VQ. Several processes may use one file.

    Raises InputError naming the file where sqlite cannot go on.
    """

    def __init__(self, path: Path, vq: str, length: int, count: int) -> None:
        self.path, self.vq, self.length = path, vq, length
        self.dtype = np.dtype("<u2" if count <= 1 << 16 else "<u4")
        with self._using():
            self._file = sqlite3.connect(path, timeout=60)
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS codes (vq TEXT, picture BLOB, codes BLOB, PRIMARY KEY (vq, picture))"
                " WITHOUT ROWID"
            )

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(f"cannot be used: {error}", file=self.path, field="cache_path") from error

    def get(self, key: bytes) -> Codes | None:
        with self._using():
            found = self._file.execute(
                "SELECT codes FROM codes WHERE vq = ? AND picture = ?", (self.vq, key)
            ).fetchone()
        if found is None:
            return None
        if not isinstance(found[0], bytes) or len(found[0]) != self.length * self.dtype.itemsize:
            raise InputError("cannot be used: it has a picture of another number of codes", file=self.path)
        return tuple(np.frombuffer(found[0], self.dtype).tolist())

    def put(self, rows: Sequence[tuple[bytes, Codes]]) -> None:
        content = [(self.vq, key, np.asarray(codes, self.dtype).tobytes()) for key, codes in rows]
        with self._using(), self._file:
            self._file.executemany("INSERT OR IGNORE INTO codes VALUES (?, ?, ?)", content)

    def close(self) -> None:
        self._file.close()


class PictureCodes:
    """Takes pictures in, and gives their codes when a batch of new ones is together.

    `batch_size` pictures are encoded at a time. With `fill` a short batch is filled up: on a GPU the kernels depend on
    its size, and with them the last bits, which may turn a code. `workers` processes decode; with 0 this one does.
    """

    def __init__(self, omni: Omni, cache: CodeCache, *, batch_size: int, workers: int, fill: bool) -> None:
        self.omni, self.cache, self.batch_size, self.fill = omni, cache, batch_size, fill
        self.vq = omni.model.model.vqmodel
        self.resolution: int = self.vq.config.resolution
        self.ahead = AHEAD * workers
        self.hits = self.encoded = 0
        self.known: dict[bytes, Codes | str] = {}  # or why a picture cannot be used
        self.users: dict[bytes, int] = {}
        self._decoding: dict[bytes, Future[bytes | str] | bytes] = {}  # without workers, the file still to be decoded
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, initializer=end_with_parent)

    def ask(self, data: bytes) -> bytes:
        """Take in a picture's file; its key, which is to be given back to `forget`."""
        key = hashlib.sha256(data).digest()
        self.users[key] = self.users.get(key, 0) + 1
        if key in self.known or key in self._decoding:
            self.hits += 1
            return key
        if (cached := self.cache.get(key)) is not None:
            self.known[key] = cached
            self.hits += 1
        elif self._pool is None:
            self._decoding[key] = data
        else:
            with self._living():
                self._decoding[key] = self._pool.submit(see, data, self.resolution)
        return key

    @property
    def full(self) -> bool:
        """Whether enough is decoded, or being decoded, for a batch to be encoded."""
        return len(self._decoding) >= self.batch_size + self.ahead

    @property
    def busy(self) -> bool:
        return bool(self._decoding)

    def encode(self) -> None:
        """Make a batch of what was asked for first known, and keep its codes."""
        keys: list[bytes] = []
        squares: list[PilImage.Image] = []
        while self._decoding and len(squares) < self.batch_size:
            key = next(iter(self._decoding))
            waiting = self._decoding.pop(key)
            if isinstance(waiting, bytes):
                seen = see(waiting, self.resolution)
            else:
                with self._living():
                    seen = waiting.result()
            if isinstance(seen, str):
                self.known[key] = seen
            else:
                keys.append(key)
                squares.append(PilImage.frombytes("RGB", (self.resolution, self.resolution), seen))
        if not squares:
            return
        spare = self.batch_size - len(squares) if self.fill else 0
        codes = encode_images(self.vq, squares + squares[-1:] * spare, self.batch_size).tolist()
        fresh = [(key, tuple(each)) for key, each in zip(keys, codes, strict=False)]
        self.cache.put(fresh)
        self.known.update(fresh)
        self.encoded += len(fresh)

    def forget(self, key: bytes) -> None:
        """One use of a picture less; after the last its codes are in the file only."""
        self.users[key] -= 1
        if not self.users[key]:
            del self.users[key]
            self.known.pop(key, None)

    @contextmanager
    def _living(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            message = "a process that decodes pictures died; SIGKILL is mostly the system's, out of memory"
            raise OmniError(f"{message}: try fewer workers") from error

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self.cache.close()


def open_codes(omni: Omni, path: Path, *, batch_size: int, workers: int) -> PictureCodes:
    """For the VQ of a checkpoint, with what is kept in the file `path`."""
    vocabulary = omni.vocabulary
    cache = CodeCache(path, digest(omni.model.model.vqmodel), vocabulary.image_length, len(vocabulary.codes))
    on_gpu = omni.model.model.vqmodel.device.type != "cpu"
    return PictureCodes(omni, cache, batch_size=batch_size, workers=workers, fill=on_gpu)
