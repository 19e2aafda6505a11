"""`omni-r1 bootstrap`: chains of thought in text alone in, shards with drawn steps out, ready for `omni-r1 pesft`.

Rows go in chunks: the pictures of their questions become codes, then round k draws step k of all rows of the chunk that
have one, behind the drawings taken in the rounds before. A chunk is a shard and a file of its drawings, taken or not:
a run that is killed loses one chunk at most, and draws it again from the same seeds.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from omni_r1.data.codes import PictureCodes, open_codes
from omni_r1.data.readers import PREFERRED, Position, open_source, read
from omni_r1.data.readers.source import Source
from omni_r1.data.sample import Picture, Reject, RowError, Sample
from omni_r1.data.shards import TokenRow
from omni_r1.data.token_folder import TokenFolder
from omni_r1.data.tokenize import CACHE, described, list_rejects, table
from omni_r1.errors import InputError, warn
from omni_r1.files import writing
from omni_r1.generate.backend import Backend
from omni_r1.generate.runner import open_backend
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import Omni, checkpoint, load
from omni_r1.model.vq import digest
from omni_r1.perpo.grading import grade
from omni_r1.run_record import DRAWINGS, progress
from omni_r1.trajectory import IMAGE_MARK, TAGS, Image, Segment, Text, extract_answer
from omni_r1.zero.agreement import Likelihood, answer_gains, step_agreements
from omni_r1.zero.choose import SCORE_OF, changed, choose, fault, perception_scores
from omni_r1.zero.draw import Candidate, Traced, draw, lead_of, trace
from omni_r1.zero.options import BootstrapOptions
from omni_r1.zero.perception import Calibration, calibrate
from omni_r1.zero.split import markup, reaches, split
from omni_r1.zero.validate import validate

SCORES = ("confidence", "votes", "changed", "perception", "agreement", "answer_gain")
# These decide nothing, or are in made_of.
HOW = {"input", "model_path", "output_path", "configs", "revision", "max_rejects", "batch_size", "device", "cache_path"}
HOW |= {"compile", "tensor_parallel_size"}


@dataclass
class Begun:
    """A row of a chunk: where it stands, and what became of it so far."""

    sample: Sample
    row: Traced
    told: list[dict[str, Any]]
    reject: Reject | None = None

    def drop(self, reason: str, message: str, field: str | None = None) -> None:
        self.reject = RowError(reason, message, field).reject(self.sample.id, self.sample.place)


class Bootstrapper:
    """Turns rows into rows of token ids, a chunk at a time."""

    def __init__(
        self,
        options: BootstrapOptions,
        backend: Backend,
        pictures: PictureCodes,
        calibration: Calibration | None,
        likely: Likelihood | None,
        drawn_by: str,
    ) -> None:
        self.options, self.backend, self.pictures = options, backend, pictures
        self.vocabulary, self.drawn_by = backend.vocabulary, drawn_by
        self.calibration, self.likely = calibration, likely
        asked = options.reaches_answer
        self.reaching = options.format == "m3cot" if asked is None else asked

    def chunk(self, items: Iterable[Sample | Reject]) -> tuple[list[TokenRow], list[Reject], list[dict[str, Any]]]:
        """What became of some rows, in their order: those to write, rejects, and what is told of each drawing."""
        outcomes: list[Begun | Reject] = [self._begun(item) for item in items]
        rows = [each for each in outcomes if isinstance(each, Begun)]
        self._see(rows)
        while drawing := [each for each in rows if not each.reject and len(each.row.drawings) < len(each.row.steps)]:
            self._round(drawing)
        written = [self._written(each) for each in rows if not each.reject]
        rejects = [each if isinstance(each, Reject) else each.reject for each in outcomes]
        told = [line | {"written": each.reject is None} for each in rows for line in each.told]
        return written, [reject for reject in rejects if reject is not None], told

    def _begun(self, item: Sample | Reject) -> "Begun | Reject":
        """A row with its steps, its pictures not looked at yet; or why it cannot be used."""
        if isinstance(item, Reject):
            return item
        try:
            return Begun(item, self._steps_of(item), [])
        except RowError as error:
            return error.reject(item.id, item.place)

    def _steps_of(self, sample: Sample) -> Traced:
        said = "".join(part.text for part in sample.rationale if isinstance(part, Text))
        chain = split(said, self.options.max_steps)
        if not chain.steps:
            raise RowError("no-rationale", "has no reasoning", "rationale")
        if found := markup(chain):
            raise RowError("marked-up", f"has {found!r}, which is of the layout around it", "rationale")
        if self.reaching and not reaches(said, sample.answer, sample.options):
            raise RowError("answer-not-reached", f"does not come to {sample.answer!r}", "rationale")
        blank = Image((0,) * self.vocabulary.image_length)
        question = tuple(part if isinstance(part, Text) else blank for part in sample.question)
        lead = lead_of(sample.id, self.options)
        row = Traced(sample.id, question, chain.steps, chain.conclusion, sample.answer, lead)
        written = trace(row, [blank] * len(row.steps), self.options.template)
        verdict = grade(extract_answer(written.response_text) or "", sample.answer, sample.options)
        if not verdict.correct:
            message = f"{sample.answer!r} would be graded wrong against itself: {verdict.reason}"
            raise RowError("answer-ungradable", message, "answer")
        length = len(self.vocabulary.render(written).ids)
        if length > self.options.max_length:
            raise RowError("too-long", f"{length} tokens, more than max_length {self.options.max_length}")
        return row

    def _see(self, rows: list[Begun]) -> None:
        """Put codes where the questions have pictures."""
        asked = [
            [self.pictures.ask(part.data) for part in each.sample.question if isinstance(part, Picture)]
            for each in rows
        ]
        while self.pictures.busy:
            self.pictures.encode()
        for each, keys in zip(rows, asked, strict=True):
            left = iter(keys)
            question: list[Segment] = []
            for part in each.sample.question:
                if not isinstance(part, Picture):
                    question.append(part)
                    continue
                codes = self.pictures.known[next(left)]
                if isinstance(codes, str):
                    each.drop("broken-image", codes, part.field)
                else:
                    question.append(Image(codes))
            each.row.question = tuple(question)
        for key in [key for keys in asked for key in keys]:
            self.pictures.forget(key)

    def _round(self, begun: list[Begun]) -> None:
        """Draw the next step of each row, and take a drawing or drop the row."""
        rows = [each.row for each in begun]
        drawn, failed = draw(rows, self.backend, self.options)
        for place, reason in failed.items():
            begun[place].drop("not-drawn", f"step {len(rows[place].drawings) + 1}: {reason}", "rationale")
        begun = [each for each in begun if each.reject is None]
        rows, drawn = [each.row for each in begun], [candidates for candidates in drawn if candidates]
        self._measure(rows, drawn)
        for each, candidates in zip(begun, drawn, strict=True):
            faults = [fault(one, self.options) for one in candidates]
            taken = choose(candidates, faults, self.options.choose_by)
            each.told += self._told(each, candidates, faults, taken)
            if taken is not None:
                each.row.drawings.append(candidates[taken].image)
                continue
            reason, count = Counter(reason for reason in faults if reason).most_common(1)[0]
            message = f"step {len(each.row.drawings) + 1}: {count} of {len(faults)} drawings are {reason}"
            if (score := SCORE_OF.get(reason)) is not None:
                best = max(getattr(one, score) for one, why in zip(candidates, faults, strict=True) if why == reason)
                message += f", {score} {best:.4g} at best where {getattr(self.options, f'min_{score}')} is the least"
            each.drop(reason, message, "rationale")

    def _measure(self, rows: list[Traced], drawn: list[list[Candidate]]) -> None:
        for row, candidates in zip(rows, drawn, strict=True):
            for one in candidates:
                one.changed = changed(one.codes, [*row.pictures, *row.drawings])
        if self.calibration is not None and drawn:
            scores = iter(perception_scores([one for candidates in drawn for one in candidates], *self.calibration))
            for candidates in drawn:
                for one in candidates:
                    one.perception = next(scores)
        if self.likely is not None and self.options.asking_for_words:
            for candidates, found in zip(drawn, step_agreements(rows, drawn, self.options, self.likely), strict=True):
                for one, agreement in zip(candidates, found, strict=True):
                    one.agreement = agreement

        if self.likely is not None and self.options.asking_for_answers:
            last = [
                (replace(row, drawings=[*row.drawings, one.image]), one)
                for row, candidates in zip(rows, drawn, strict=True)
                for one in candidates
                if len(row.drawings) == len(row.steps) - 1
            ]
            gains = answer_gains([row for row, _ in last], self.options, self.likely)
            for (_, one), gain in zip(last, gains, strict=True):
                one.answer_gain = gain

    def _told(
        self, each: Begun, candidates: list[Candidate], faults: list[str | None], taken: int | None
    ) -> Iterator[dict[str, Any]]:
        """A line for each drawing of a step: where it came from, what it scored, what became of it. A row's first line
        has its question too, with the codes of its pictures."""
        asked: dict[str, Any] = {}
        if not each.row.drawings:
            said = "".join(part.text if isinstance(part, Text) else IMAGE_MARK for part in each.row.question)
            asked = {"question": said, "pictures": [list(picture.codes) for picture in each.row.pictures]}
            asked["conclusion"] = each.row.conclusion
        for place, (one, reason) in enumerate(zip(candidates, faults, strict=True)):
            scores = {name: getattr(one, name) for name in SCORES}
            yield {
                "id": each.row.id,
                "step": len(each.row.drawings) + 1,
                "candidate": place + 1,
                "words": each.row.steps[len(each.row.drawings)],
                "answer": each.row.answer,
                "seed": one.seed,
                "drawn_by": self.drawn_by,
                "drawn_as": self.options.draw_as,
                "scores": {name: round(value, 4) for name, value in scores.items() if value is not None},
                "reason": reason,
                "taken": place == taken,
                "codes": list(one.codes),
            } | (asked if place == 0 else {})

    def _written(self, each: Begun) -> TokenRow:
        rendered = self.vocabulary.render(trace(each.row, each.row.drawings, self.options.template))
        return TokenRow.of(each.row.id, rendered, self.vocabulary, each.sample.options)


def bootstrap(options: BootstrapOptions) -> int:
    """The verb. Rows that are rejected are counted and listed; the exit code is 0 unless `max_rejects` is passed.

    Raises InputError where no row at all could be used.
    """
    source = open_source(
        options.input, options.config_names, options.split, options.revision, PREFERRED[options.format]
    )
    folder_of_model = checkpoint.locate(options.model_path)
    omni, backend = open_backend(options.generating())
    if options.template == "templated" and (missing := set(TAGS) - set(omni.vocabulary.tags)):
        raise InputError(f"the checkpoint's tokenizer has no {min(missing)}", field="template")
    drawn_by = checkpoint.weight_sums(folder_of_model)
    made_of = {name: value for name, value in vars(options).items() if name not in HOW}
    made_of |= {"source": source.made_of, "vocabulary": omni.vocabulary.digest, "checkpoint": drawn_by}
    folder = TokenFolder(Path(options.output_path), options, made_of, beside=DRAWINGS)
    started, before = time.monotonic(), folder.counts()["read"]
    cache = Path(options.cache_path or folder.path / CACHE)
    with writing(cache):
        cache.parent.mkdir(parents=True, exist_ok=True)
    pictures = open_codes(omni, cache, batch_size=options.batch_size, workers=0)
    try:
        if not folder.finished:
            name = hashlib.sha256(json.dumps(drawn_by).encode()).hexdigest()[:12]
            asking = options.asking_for_words or options.asking_for_answers
            likely = _likelihood(options, omni, backend) if asking else None
            scale = None
            if options.min_perception is not None:
                scale = calibrate(options, omni, folder_of_model, source, pictures)
            _fill(folder, source, Bootstrapper(options, backend, pictures, scale, likely, name), omni, options)
            _finish(folder, source, omni, options)
    finally:
        pictures.close()
    for line in table(folder, pictures, folder.counts()["read"] - before, time.monotonic() - started):
        print(line)
    return 0


def _likelihood(options: BootstrapOptions, omni: Omni, backend: Backend) -> Likelihood:
    """By the model that draws; where that is in other processes, by a copy of it."""
    if not isinstance(backend, TransformersBackend):
        omni = load(options.model_path, device=options.generating().devices[0], dtype=options.dtype)
    return Likelihood(omni, options.batch_size)


def _fill(
    folder: TokenFolder, source: Source, bootstrapper: Bootstrapper, omni: Omni, options: BootstrapOptions
) -> None:
    """Write shard after shard, from where the folder is."""
    seen, most = set(folder.ids()), options.max_rows or sys.maxsize
    items: Iterator[tuple[Position, Sample | Reject]] = read(
        source, options.format, omni.vocabulary, after=folder.position, limit=options.limit, seen=seen, text_only=True
    )
    with progress(None if options.limit else source.total, "row", "bootstrap") as bar:
        bar.update(folder.counts()["read"])
        while left := most - folder.counts()["written"]:
            chunk = list(islice(items, min(options.chunk_size, left)))  # all of them may be written
            if not chunk:
                break
            rows, rejects, told = bootstrapper.chunk(item for _, item in chunk)
            folder.add(rows, rejects, chunk[-1][0], told)
            bar.update(len(chunk))


def _finish(folder: TokenFolder, source: Source, omni: Omni, options: BootstrapOptions) -> None:
    """Look through all that was written once more, and write what came of it."""
    list_rejects(folder, options.input, options.max_rejects)
    checked = validate(folder.path, omni)
    for name, reason in list(checked.faults.items())[:10]:
        warn(f"row {name!r} does not pass: {reason}")
    folder.finish(
        {
            "vocabulary": folder.made_of["vocabulary"],
            "vq": digest(omni.model.model.vqmodel),
            "mode": options.template,
            "plain_include_rationale": True,
            "max_length": options.max_length,
            "format": options.format,
            "source": described(source, options.split, folder.made_of),
            "drawn_by": {"model": options.model_path, "files": folder.made_of["checkpoint"]},
            "validated": {"rows": checked.rows, "passed": checked.rows - len(checked.faults), "faults": checked.faults},
            "warnings": [],
        }
    )
