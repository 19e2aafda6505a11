"""Drawing a chain of thought step by step: each step is put to a backend with all that stands before it, and one image
comes back for each candidate.

The prompt of a drawing is a trajectory up to the begin of the image, so it is laid out and then cut there. The grammar
does the rest: behind an open image come exactly S codes and its end.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from omni_r1.generate.backend import Backend, Request, SamplingOptions
from omni_r1.trajectory import Image, Segment, Text, Trajectory, merged, plain, templated
from omni_r1.vocabulary import Vocabulary
from omni_r1.zero.options import BootstrapOptions

NEXT = "\n"


@dataclass
class Traced:
    """A row on its way to a trajectory: its question with pictures as codes, its steps in words, and their drawings.

    `lead` chooses the lead phrase of the templated form.
    """

    id: str
    question: tuple[Segment, ...]
    steps: tuple[str, ...]
    conclusion: str
    answer: str
    lead: int = 0
    drawings: list[Image] = field(default_factory=list)

    @property
    def pictures(self) -> list[Image]:
        return [segment for segment in self.question if isinstance(segment, Image)]


@dataclass
class Candidate:
    """A drawing of a step: its codes, the seed it came from, and what is known of it.

    `confidence`: mean log-prob of its codes under the distribution it was sampled from, in nats. `votes`: share of the
    step's candidates that are the same image. The others are None where nobody asked, and `answer_gain` before the last
    step too.
    """

    codes: tuple[int, ...]
    seed: int
    confidence: float
    votes: float = 0.0
    perception: float | None = None
    changed: float | None = None
    agreement: float | None = None
    answer_gain: float | None = None

    @property
    def image(self) -> Image:
        return Image(self.codes)


def reasoning(row: Traced, drawings: Sequence[Image | None], label: str = "THOUGHT") -> list[Segment]:
    """The first steps of a row, one for each of `drawings`, each behind its words; a None leaves only the words."""
    out: list[Segment] = []
    for number, drawing in enumerate(drawings, 1):
        words = row.steps[number - 1]
        out.append(Text(f"{NEXT * (number > 1)}{label} {number}: {words}{' ' * bool(words)}"))
        out += [drawing] if drawing is not None else []
    return out


def trace(row: Traced, drawings: Sequence[Image | None], template: str) -> Trajectory:
    """The row as it is written and learned from, with the drawings given."""
    rationale = reasoning(row, drawings)
    if row.conclusion:
        rationale.append(Text(f"{NEXT}{row.conclusion}"))
    if template == "plain":
        return plain(row.question, rationale, row.answer)
    return templated(row.question, rationale, row.answer, lead=row.lead)


def captions(row: Traced, drawings: Sequence[Image | None]) -> Trajectory:
    """The pictures of the question, and below them its steps as captions of the pictures that follow: for models that
    have seen captioned pictures and no questions."""
    prompt = merged([*row.pictures, Text(NEXT)]) if row.pictures else ()
    return Trajectory(prompt, tuple(reasoning(row, drawings, "Figure")), ended=True)


def prompt_of(row: Traced, options: BootstrapOptions, vocabulary: Vocabulary, words: str | None = None) -> list[int]:
    """Token ids up to the begin of the next drawing; `words`, where given, stand for the step's own."""
    if words is not None:
        row = replace(row, steps=(*row.steps[: len(row.drawings)], words))
    drawings = [*row.drawings, Image((0,) * vocabulary.image_length)]
    laid_out = captions(row, drawings) if options.draw_as == "caption" else trace(row, drawings, options.template)
    ids = vocabulary.render(laid_out).ids
    return ids[: len(ids) - ids[::-1].index(vocabulary.boi)]


def seeds_of(name: str, step: int, options: BootstrapOptions) -> list[int]:
    """The seeds of a step's candidates, which depend on nothing but the row's id and the step."""
    names = (f"{options.seed}:{step}:{place}:{name}".encode() for place in range(options.candidates))
    return [int.from_bytes(hashlib.sha256(name).digest()[:7]) for name in names]


def lead_of(name: str, options: BootstrapOptions) -> int:
    """Which lead phrase a row has in the templated form."""
    return hashlib.sha256(f"{options.seed}:{name}".encode()).digest()[0]


def sampling(options: BootstrapOptions, vocabulary: Vocabulary) -> SamplingOptions:
    """One image and nothing else."""
    return SamplingOptions(
        mode="image-only",
        max_new_tokens=vocabulary.image_length + 1,
        do_sample=options.do_sample,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        guidance_scale=options.guidance_scale,
    )


def draw(
    rows: Sequence[Traced], backend: Backend, options: BootstrapOptions
) -> tuple[list[list[Candidate]], dict[int, str]]:
    """The candidates for the next step of each row, all rows together; and why, by its place, a row has none: logits
    that are not finite have no drawing to give."""
    vocabulary = backend.vocabulary
    seeds = [seeds_of(row.id, len(row.drawings), options) for row in rows]
    requests = (Request(key, prompt_of(row, options, vocabulary), seeds[key]) for key, row in enumerate(rows))
    found: list[list[Candidate]] = [[] for _ in rows]
    places: list[list[int]] = [[] for _ in rows]
    failed: dict[int, str] = {}
    for key, place, completion in backend.stream(requests, sampling(options, vocabulary)):
        if completion.error is not None or completion.trajectory is None:
            failed[key] = str(completion.error)
            continue
        codes = completion.trajectory.response_images[-1].codes
        confidence = math.fsum(completion.logprobs) / len(codes)
        found[key].append(Candidate(codes, seeds[key][place], confidence))
        places[key].append(place)
    for key, candidates in enumerate(found):
        if key in failed:
            found[key] = []
            continue
        found[key] = [candidates[at] for at in sorted(range(len(candidates)), key=places[key].__getitem__)]
        counts = Counter(candidate.codes for candidate in candidates)
        for candidate in candidates:
            candidate.votes = counts[candidate.codes] / len(candidates)
    return found, failed
