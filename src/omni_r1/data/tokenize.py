"""`omni-r1 tokenize`: a data set in, shards of token ids out, and of every row what became of it."""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omni_r1.data.codes import PictureCodes, open_codes
from omni_r1.data.readers import PREFERRED, Position, Source, open_source, read
from omni_r1.data.sample import Part, Picture, Reject, RowError, Sample
from omni_r1.data.shards import TokenRow
from omni_r1.data.token_folder import TokenFolder
from omni_r1.errors import InputError, warn
from omni_r1.files import writing
from omni_r1.model import checkpoint, load
from omni_r1.model.vq import digest
from omni_r1.options import TokenizeOptions
from omni_r1.run_record import progress
from omni_r1.trajectory import TAGS, Image, Segment, Text, Trajectory, plain, templated
from omni_r1.vocabulary import Vocabulary

CACHE = "codes.sqlite"
MOST_WAITING = 1000  # rows, of which only the first may want for a picture
MOST_REJECTS = 1000  # of a line of the log: then a shard ends early
HOW = {"input", "model_path", "output_path", "configs", "revision", "max_rejects"}  # decide nothing, or are in made_of
HOW |= {"batch_size", "workers", "device", "cache_path"}


@dataclass(frozen=True)
class Asked:
    """A picture that was handed to `PictureCodes`."""

    key: bytes
    field: str


@dataclass
class Waiting:
    """A row on its way: read, its pictures asked for, not laid out yet."""

    position: Position
    item: Sample | Reject
    question: list[Text | Image | Asked]
    rationale: list[Text | Image | Asked]

    @property
    def asked(self) -> list[Asked]:
        return [part for part in [*self.question, *self.rationale] if isinstance(part, Asked)]


class Tokenizer:
    """Samples to rows of token ids. `pictures` is None for a format whose pictures are codes already."""

    def __init__(self, options: TokenizeOptions, vocabulary: Vocabulary, pictures: PictureCodes | None) -> None:
        self.options, self.vocabulary, self.pictures = options, vocabulary, pictures

    def rows(self, items: Iterable[tuple[Position, Sample | Reject]]) -> Iterator[tuple[Position, TokenRow | Reject]]:
        """What became of each item, in their order."""
        waiting: deque[Waiting] = deque()
        for position, item in items:
            waiting.append(self._begin(position, item))
            while self.pictures and (self.pictures.full or (self.pictures.busy and len(waiting) > MOST_WAITING)):
                self.pictures.encode()
            yield from self._ready(waiting)
        while waiting:
            assert self.pictures is not None
            self.pictures.encode()
            yield from self._ready(waiting)

    def _begin(self, position: Position, item: Sample | Reject) -> Waiting:
        try:
            if isinstance(item, Reject):
                return Waiting(position, item, [], [])
            item = self._fitting(item)
        except RowError as error:
            return Waiting(position, error.reject(item.id, item.place), [], [])
        return Waiting(position, item, [*map(self._ask, item.question)], [*map(self._ask, item.rationale)])

    def _fitting(self, sample: Sample) -> Sample:
        """The sample as it is to be learned. Raises RowError where that can be said before pictures are looked at."""
        if not self.options.plain_include_rationale:
            sample = replace(sample, rationale=())
        elif not sample.rationale:
            raise RowError("no-rationale", "has no reasoning")
        images = sum(not isinstance(part, Text) for part in (*sample.question, *sample.rationale))
        self._check_length(images * (self.vocabulary.image_length + 2), " in pictures alone")
        return sample

    def _check_length(self, tokens: int, what: str = "") -> None:
        if tokens > self.options.max_length:
            raise RowError("too-long", f"{tokens} tokens{what}, more than max_length {self.options.max_length}")

    def _ask(self, part: Part) -> Text | Image | Asked:
        if not isinstance(part, Picture):
            return part
        assert self.pictures is not None
        return Asked(self.pictures.ask(part.data), part.field)

    def _ready(self, waiting: deque[Waiting]) -> Iterator[tuple[Position, TokenRow | Reject]]:
        while waiting:
            row = waiting[0]
            if self.pictures and any(part.key not in self.pictures.known for part in row.asked):
                return
            waiting.popleft()
            yield row.position, self._finish(row)
            for part in row.asked:
                assert self.pictures is not None
                self.pictures.forget(part.key)

    def _finish(self, row: Waiting) -> TokenRow | Reject:
        if isinstance(row.item, Reject):
            return row.item
        try:
            question, rationale = ([*map(self._segment, side)] for side in (row.question, row.rationale))
            rendered = self.vocabulary.render(self._laid_out(row.item, question, rationale))
            self._check_length(len(rendered.ids))
        except RowError as error:
            return error.reject(row.item.id, row.item.place)
        return TokenRow.of(row.item.id, rendered, self.vocabulary, row.item.options)

    def _segment(self, part: Text | Image | Asked) -> Segment:
        if not isinstance(part, Asked):
            return part
        assert self.pictures is not None
        codes = self.pictures.known[part.key]
        if isinstance(codes, str):
            raise RowError("broken-image", codes, part.field)
        return Image(codes)

    def _laid_out(self, sample: Sample, question: list[Segment], rationale: list[Segment]) -> Trajectory:
        if self.options.mode == "plain":
            return plain(question, rationale, sample.answer)
        drawn = hashlib.sha256(f"{self.options.seed}:{sample.id}".encode()).digest()
        return templated(question, rationale, sample.answer, lead=drawn[0])


def tokenize(options: TokenizeOptions) -> int:
    """The verb. Rows that are rejected are counted and listed; the exit code is 0 unless `max_rejects` is passed.

    Raises InputError where no row at all could be used.
    """
    source = open_source(
        options.input, options.config_names, options.split, options.revision, PREFERRED[options.format]
    )
    if options.format == "original":  # its pictures are codes already
        omni, vocabulary = None, Vocabulary.from_checkpoint(checkpoint.locate(options.model_path))
    else:
        omni = load(options.model_path, device=options.device, language_model=False)
        vocabulary = omni.vocabulary
    if options.mode == "templated" and (missing := set(TAGS) - set(vocabulary.tags)):
        raise InputError(f"the checkpoint's tokenizer has no {min(missing)}", field="mode")
    if not options.plain_include_rationale:
        warn("plain_include_rationale is off: reasoning and its drawings are left out, the answer alone is a target")
    made_of = _made_of(options, source, vocabulary, None if omni is None else digest(omni.model.model.vqmodel))
    folder = TokenFolder(Path(options.output_path), options, made_of)
    started, before = time.monotonic(), folder.counts()["read"]
    pictures = None
    if not folder.finished:
        try:
            if omni is not None:
                cache = Path(options.cache_path or folder.path / CACHE)
                with writing(cache):
                    cache.parent.mkdir(parents=True, exist_ok=True)
                pictures = open_codes(omni, cache, batch_size=options.batch_size, workers=options.workers)
            _fill(folder, source, Tokenizer(options, vocabulary, pictures), options)
        finally:
            if pictures is not None:
                pictures.close()
        _finish(folder, source, options)
    seconds = time.monotonic() - started
    for line in table(folder, pictures, folder.counts()["read"] - before, seconds):
        print(line)
    return 0


def _made_of(options: TokenizeOptions, source: Source, vocabulary: Vocabulary, vq: str | None) -> dict[str, Any]:
    """All that decides what is in the shards."""
    chosen = {name: value for name, value in vars(options).items() if name not in HOW}
    return {**chosen, "source": source.made_of, "vocabulary": vocabulary.digest, "vq": vq}


def _fill(folder: TokenFolder, source: Source, tokenizer: Tokenizer, options: TokenizeOptions) -> None:
    """Write shard after shard, from where the folder is."""
    seen = set(folder.ids())
    done = folder.counts()["read"]
    items = read(source, options.format, tokenizer.vocabulary, after=folder.position, limit=options.limit, seen=seen)
    rows: list[TokenRow] = []
    rejects: list[Reject] = []
    position = folder.position
    total = None if options.limit else source.total
    with progress(total, "row", "tokenize") as bar:
        bar.update(done)
        for position, outcome in tokenizer.rows(items):
            if isinstance(outcome, Reject):
                rejects.append(outcome)
            else:
                rows.append(outcome)
            bar.update()
            if len(rows) == options.rows_per_shard or len(rejects) == MOST_REJECTS:
                folder.add(rows, rejects, position)
                rows, rejects = [], []
    if rows or rejects:
        folder.add(rows, rejects, position)


def list_rejects(folder: TokenFolder, name: str, most: float | None) -> None:
    """Write the list of rejects. Raises InputError where no row of `name` is left, or `most` is passed (below 1 it is a
    share)."""
    counts = folder.counts()
    listed = folder.write_rejects()
    rejected = sum(counts["rejected"].values())
    if not counts["written"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
        message = f"no row can be used, of {counts['read']} ({reasons}); see {listed}" if rejected else "no rows"
        raise InputError(message, file=name, field="input")
    if most is not None and rejected > (most * counts["read"] if 0 < most < 1 else most):
        message = f"{rejected} of {counts['read']} rows are rejected, more than {most:g}; see {listed}"
        raise InputError(message, file=name, field="max_rejects")


def described(source: Source, split: str, made_of: dict[str, Any]) -> dict[str, Any]:
    """A manifest's part about where rows came from."""
    return {"name": source.name, "licence": source.licence, "split": split} | made_of["source"]


def _finish(folder: TokenFolder, source: Source, options: TokenizeOptions) -> None:
    """Write what came of it. Raises InputError, before the manifest, where too little did."""
    list_rejects(folder, options.input, options.max_rejects)
    warnings = []
    if not folder.counts()["target_images"]:
        warnings.append("no image is a target: PeSFT on this does not learn to draw (PeRPO needs no targets)")
    folder.finish(
        {
            "vocabulary": folder.made_of["vocabulary"],
            "vq": folder.made_of["vq"],
            "mode": options.mode,
            "plain_include_rationale": options.plain_include_rationale,
            "max_length": options.max_length,
            "format": options.format,
            "source": described(source, options.split, folder.made_of),
            "warnings": warnings,
        }
    )
    for each in warnings:
        warn(each)


def table(folder: TokenFolder, pictures: PictureCodes | None, read_now: int, seconds: float) -> list[str]:
    """What became of the rows, and how fast, in lines for people."""
    counts = folder.counts()
    lines: list[tuple[str, int | str]] = [("rows read", counts["read"]), ("rows written", counts["written"])]
    lines += [("rows rejected", sum(counts["rejected"].values()))]
    lines += [(f"  {reason}", count) for reason, count in counts["rejected"].items()]
    lines += [("tokens", counts["tokens"]), ("  of them targets", counts["target_tokens"])]
    lines += [("images", counts["images"]), ("  of them targets", counts["target_images"])]
    if pictures is not None:
        lines += [("pictures encoded now", pictures.encoded), ("  known already", pictures.hits)]
    if read_now:
        lines.append(("rows a second", f"{read_now / seconds:,.1f}"))
    width = max(len(name) for name, _ in lines)
    shown = [f"{name:<{width}}  {value if isinstance(value, str) else f'{value:,}':>14}" for name, value in lines]
    return [*shown, f"{folder.path} was finished already" if folder.was_finished else f"see {folder.path}"]
