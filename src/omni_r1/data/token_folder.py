"""A folder of shards, which may be killed at any moment while it is made and ends with the same files.

A shard is written whole, then the log gets a line with its sum, the rejects up to it, and how far the source was read.
What else is told of a shard is a file of its own in a folder beside, there before the line is and summed up in it too.
A run that goes on keeps the shards that are as the log says, up to the first that is not, and reads on behind them.
`manifest.json` comes last: with it the folder is finished.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omni_r1.data.sample import Reject
from omni_r1.data.shards import FORMAT_VERSION, MANIFEST, SHARDS, TokenRow, shard_bytes
from omni_r1.errors import InputError, warn
from omni_r1.files import AppendLog, remove_unfinished, write_atomic, writing
from omni_r1.run_record import RUN, describe_run

LOG, REJECTS = "progress.jsonl", "rejects.jsonl"
MADE_OF = "made_of"
REJECT_KEYS = ("file", "row", "id", "field", "reason", "message")  # the log has them in another order
SUMMED = ("rows", "tokens", "target_tokens", "images", "target_images")


class TokenFolder:
    """A folder of shards, fresh or gone on with.

    `made_of`: all that decides the content. `beside`: the folder for what else is told of each shard. Raises InputError
    where what is there was made of something else, or is no work of this verb.
    """

    def __init__(self, path: Path, options: Any, made_of: dict[str, Any], beside: str | None = None) -> None:
        self.path, self.made_of, self.beside = path, json.loads(json.dumps(made_of)), beside
        going_on = (path / LOG).exists()
        if going_on:
            self._same()
        for folder in () if going_on else self._folders():
            if any(folder.glob("*")):
                raise InputError("has files that no run tells of", file=folder, field="output_path")
        with writing(path):
            for folder in self._folders():
                folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path)
        if not going_on:
            described = describe_run(options, options.seed) | {MADE_OF: self.made_of}
            write_atomic(path / RUN, json.dumps(described, indent=1) + "\n")
        self.log = AppendLog(path / LOG)
        kept = self._whole()
        if len(kept) < len(self.log.rows):
            warn(f"{path}: shard {len(kept)} is not as it was written: made anew, with those behind it")
            self.log.rewrite(kept)
            self._unlink(path / MANIFEST)
        told = {file for line in kept for file, _ in self._files(line)}
        numbered = "[0-9]" * 5
        for file in {*path.glob(f"{SHARDS}/{numbered}.parquet"), *path.glob(f"{beside}/{numbered}.jsonl")} - told:
            self._unlink(file)  # written, and killed before its line was
        self.was_finished = self.finished

    def _folders(self) -> list[Path]:
        return [self.path / SHARDS, *([self.path / self.beside] if self.beside else [])]

    def _files(self, line: dict[str, Any]) -> list[tuple[Path, str]]:
        """The files that a line of the log tells of, and their sums."""
        files = [(self.path / SHARDS / line["file"], line["sha256"])] if line["file"] is not None else []
        if self.beside and "beside" in line:
            files.append((self.path / self.beside / line["beside"]["file"], line["beside"]["sha256"]))
        return files

    def _same(self) -> None:
        file = self.path / RUN
        try:
            before = json.loads(file.read_text())[MADE_OF]
            differing = [name for name, value in self.made_of.items() if before[name] != value]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot be gone on with: {error}", file=file, field="output_path") from error
        for name in differing:
            was, now = (json.dumps(value)[:200] for value in (before[name], self.made_of[name]))
            sums = isinstance(self.made_of[name], dict)  # of files, which say nothing to anyone
            reason = "was another there" if sums else f"was {was} there, not {now}"
            raise InputError(f"{reason}; take another output_path", file=file, field=name)

    def _whole(self) -> list[dict[str, Any]]:
        """The lines of the log whose files are as they say, up to the first that is not."""
        kept = []
        for number, line in enumerate(self.log.rows):
            if line["file"] not in (None, shard_name(number)):
                reason = f"tells of {line['file']}, not of {shard_name(number)}: two runs have written here"
                raise InputError(reason, file=self.log.path, row=number + 1, field="file")
            if not all(self._is_whole(file, digest) for file, digest in self._files(line)):
                break
            kept.append(line)
        return kept

    @staticmethod
    def _is_whole(file: Path, digest: str) -> bool:
        try:
            return hashlib.sha256(file.read_bytes()).hexdigest() == digest
        except OSError:
            return False

    def _unlink(self, file: Path) -> None:
        with writing(file):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        return (self.path / MANIFEST).exists()

    @property
    def position(self) -> tuple[int, int]:
        """How far the source was read, (0, 0) for not at all."""
        if not self.log.rows:
            return (0, 0)
        part, row = self.log.rows[-1]["position"]
        return part, row

    def ids(self) -> Iterator[str]:
        """The ids of all rows so far, rejected ones included."""
        for line in self.log.rows:
            yield from (reject["id"] for reject in line["rejects"])
            if line["file"] is not None:
                file = self.path / SHARDS / line["file"]
                try:
                    yield from pq.read_table(file, columns=["id"]).column(0).to_pylist()
                except (OSError, pa.ArrowException) as error:
                    raise InputError(f"cannot be read: {error}", file=file) from error

    def add(
        self,
        rows: list[TokenRow],
        rejects: list[Reject],
        position: tuple[int, int],
        told: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write a shard, if there are rows; a line each for what else is `told`; and the line of the log."""
        line: dict[str, Any] = {"file": None, "position": list(position)}
        if rows:
            content, name = shard_bytes(rows), shard_name(len(self.log.rows))
            write_atomic(self.path / SHARDS / name, content)
            line |= {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        line |= {
            "rows": len(rows),
            "tokens": sum(len(row.ids) for row in rows),
            "target_tokens": sum(len(row.ids) - row.prompt_length for row in rows),
            "images": sum(len(row.spans) for row in rows),
            "target_images": sum(row.target_images for row in rows),
            "rejects": [reject.to_json() for reject in rejects],
        }
        if self.beside and told:
            name = f"{len(self.log.rows):05d}.jsonl"
            content = "".join(json.dumps(each) + "\n" for each in told).encode()
            write_atomic(self.path / self.beside / name, content)
            line["beside"] = {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
        self.log.append(line)

    def counts(self) -> dict[str, Any]:
        """Rows read and written, rejects by reason, tokens and images, so far."""
        sums = {name: sum(line[name] for line in self.log.rows) for name in SUMMED}
        reasons = Counter(reject["reason"] for line in self.log.rows for reject in line["rejects"])
        written = sums.pop("rows")
        return {
            "read": written + reasons.total(),
            "written": written,
            "rejected": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            **sums,
        }

    def write_rejects(self) -> Path:
        """All rejects, a line each, in the order of the source."""
        rejects = [reject for line in self.log.rows for reject in line["rejects"]]
        lines = [json.dumps({name: reject[name] for name in REJECT_KEYS}) + "\n" for reject in rejects]
        write_atomic(self.path / REJECTS, "".join(lines))
        return self.path / REJECTS

    def finish(self, told: dict[str, Any]) -> None:
        """Write the manifest, with what else is `told` of the run."""
        names = ("file", "rows", "tokens", "bytes", "sha256")
        shards = [{name: line[name] for name in names} for line in self.log.rows if line["file"] is not None]
        manifest = {"format_version": FORMAT_VERSION, **told, "counts": self.counts(), "shards": shards}
        write_atomic(self.path / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def shard_name(number: int) -> str:
    return f"{number:05d}.parquet"
