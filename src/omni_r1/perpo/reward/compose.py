"""The whole reward of responses: answer, format, looks (paper eq 12), each part returned beside the total."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any, Literal

import torch
from torch import Tensor, nn

from omni_r1.errors import InputError
from omni_r1.grammar import response_images
from omni_r1.perpo.grading.answer import Grade, grade
from omni_r1.perpo.reward import original
from omni_r1.perpo.reward.band import Band
from omni_r1.perpo.reward.format import Verdict, form, read
from omni_r1.perpo.reward.perception import code_distances, energies, hidden_distances, smoothness
from omni_r1.perpo.reward.profile import Profile
from omni_r1.trajectory import FINAL_ANSWER, extract_answer
from omni_r1.vocabulary import ParseError, Vocabulary

COMBINE: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "median": statistics.median,
}


@dataclass(frozen=True, eq=False)
class Response:
    """What is scored: the ids of prompt and response, `prompt_length` of them the prompt's, BOS included.

    ids: a sequence, an array or a tensor of one dimension. options: the choices of the question, where it has some.
    hidden (len(ids), H): final-layer states of all positions, for a profile that looks at them.

    Raises InputError where the ids are no whole numbers, or there is no gold answer.
    """

    ids: Sequence[int]
    prompt_length: int
    gold: str
    options: Sequence[str] | None = None
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "ids", list(map(index, self.ids)))
        except TypeError as error:
            raise InputError("must be token ids in one dimension", field="ids") from error
        if not self.gold.strip():
            raise InputError("is empty", field="gold")


@dataclass(frozen=True, eq=False)
class Judge:
    """What a checkpoint lends to scoring: its vocabulary and codebook (K, D); the band of its step images, and the
    projection that PeSFT trained with its alignment, where it has them.

    Raises InputError where band or projection are of another codebook.
    """

    vocabulary: Vocabulary
    codebook: Tensor
    band: Band | None = None
    projection: nn.Linear | None = None
    alignment: Literal["next", "same"] = "next"

    def __post_init__(self) -> None:
        if len(self.codebook) != len(self.vocabulary.codes):
            raise InputError(f"{len(self.codebook)} vectors for {len(self.vocabulary.codes)} codes", field="codebook")
        if self.band is not None:
            self.band.check(self.codebook)
        if self.projection is not None and self.projection.out_features != self.codebook.shape[1]:
            wide = self.projection.out_features
            raise InputError(f"gives {wide} numbers, a code has {self.codebook.shape[1]}", field="projection")

    def check(self, profile: Profile) -> None:
        """Raises InputError where the profile needs what this judge lacks."""
        if profile.look == "band" and self.band is None:
            made = "PeSFT leaves one, python -m omni_r1.pesft.band makes one of traces; profile paper needs none"
            raise InputError(f"has no perception_band.json, which look band needs: {made}", field="look")
        if profile.look == "hidden" and self.projection is None:
            raise InputError("has no perception.safetensors of PeSFT, which look hidden needs", field="look")

    @cached_property
    def distances(self) -> Tensor:
        """(K, K), made at the first image (`code_distances`)."""
        return code_distances(self.codebook)


@dataclass(frozen=True)
class Reward:
    """A total and what it is made of, each in [0, 1]. `perception` is None where the response has no image.

    images, whole: how many it draws, and how many of them are whole. energies: E_h / D and E_v / D of each whole image
    (none by the original's rules). looks: the score of each image that was looked at. reasons: why accuracy, format and
    perception are what they are.
    """

    total: float
    accuracy: float
    format: float
    perception: float | None
    images: int
    whole: int
    answer: str | None
    reasons: dict[str, str]
    energies: tuple[tuple[float, float], ...] = ()
    looks: tuple[float, ...] = ()


def score(responses: Sequence[Response], judge: Judge, profile: Profile) -> list[Reward]:
    """The reward of each response, the images of all of them looked at together.

    An image that is not whole looks like 0. Raises InputError at once where the profile needs what the judge or a
    response lacks.
    """
    _check(responses, judge, profile)
    if profile.rules == "original":
        return [_as_original(each, judge, profile) for each in responses]
    found = [response_images(each.ids, each.prompt_length, judge.vocabulary) for each in responses]
    seen, looks = _look(responses, found, judge, profile)
    rewards, start = [], 0
    for response, images in zip(responses, found, strict=True):
        whole = sum(closed for _, closed in images)
        mine = slice(start, start + whole)
        start += whole
        rewards.append(_reward(response, judge, profile, images, seen[mine].tolist(), looks[mine].tolist()))
    return rewards


def _check(responses: Sequence[Response], judge: Judge, profile: Profile) -> None:
    judge.check(profile)
    for number, each in enumerate(responses, 1):
        if not 0 <= each.prompt_length <= len(each.ids):
            words = f"must be from 0 to the {len(each.ids)} ids, not {each.prompt_length}"
            raise InputError(words, row=number, field="prompt_length")
    if profile.look == "hidden":
        assert judge.projection is not None  # checked
        for number, each in enumerate(responses, 1):
            shape = None if each.hidden is None else tuple(each.hidden.shape)
            if shape != (len(each.ids), judge.projection.in_features):
                wanted = (len(each.ids), judge.projection.in_features)
                raise InputError(f"states of {shape}, not {wanted}", row=number, field="hidden")


def _look(
    responses: Sequence[Response], found: Sequence[Sequence[tuple[int, bool]]], judge: Judge, profile: Profile
) -> tuple[Tensor, Tensor]:
    """(n, 2) energies and (n,) scores of the whole images of all responses, in order."""
    length = judge.vocabulary.image_length
    pairs = zip(responses, found, strict=True)
    places = [(each, start + 1) for each, images in pairs for start, whole in images if whole]
    if not places:
        return torch.zeros(0, 2), torch.zeros(0)
    tokens = torch.tensor([each.ids[start : start + length] for each, start in places])
    codes = judge.vocabulary.tokens_to_codes(tokens)
    seen = energies(codes, judge.distances)
    if profile.look == "none":
        return seen, torch.zeros(0)
    if profile.look == "smoothness":
        return seen, smoothness(seen, profile.tau, profile.map)
    if profile.look == "band":
        assert judge.band is not None  # checked
        return seen, judge.band.score(codes, seen)
    assert judge.projection is not None
    back = judge.alignment == "next"
    states = [each.hidden[start - back : start - back + length] for each, start in places if each.hidden is not None]
    distances = hidden_distances(torch.stack(states), codes, judge.projection, judge.codebook)
    return seen, smoothness(distances, profile.tau, profile.map)


def _reward(
    response: Response,
    judge: Judge,
    profile: Profile,
    images: Sequence[tuple[int, bool]],
    seen: list[list[float]],
    looks: list[float],
) -> Reward:
    try:
        trajectory = read(response.ids, response.prompt_length, images, judge.vocabulary)
        answer = extract_answer(trajectory.response_text)
        verdict = form(trajectory, response.ids[response.prompt_length :], judge.vocabulary)
    except ParseError as error:
        answer, verdict = None, Verdict(False, str(error))
    graded = _grade(answer, response)
    accuracy, formed = float(graded.correct), float(verdict.ok)
    perception = None
    if images and profile.look != "none":
        perception = COMBINE[profile.aggregate](looks + [0.0] * (len(images) - len(seen)))
    total, why = compose(profile, accuracy, formed, perception)
    return Reward(
        total=total,
        accuracy=accuracy,
        format=formed,
        perception=perception,
        images=len(images),
        whole=len(seen),
        answer=answer,
        reasons={"accuracy": graded.reason, "format": verdict.reason, "perception": why},
        energies=tuple((across, down) for across, down in seen),
        looks=tuple(looks),
    )


def _as_original(response: Response, judge: Judge, profile: Profile) -> Reward:
    """By the released code's rules: text without special tokens, as verl decodes it, and no prompt."""
    ids = response.ids[response.prompt_length :]
    known = [one for one in ids if 0 <= one < judge.vocabulary.size]
    said = judge.vocabulary.tokenizer.decode(known, skip_special_tokens=True)
    accuracy, formed = original.accuracy(said, response.gold), float(original.has_format(said))
    seen = original.image_energies(ids, judge.vocabulary, judge.codebook, judge.distances)
    looks = smoothness(torch.tensor(seen), profile.tau, profile.map).tolist()
    perception = COMBINE[profile.aggregate](looks) if looks else None
    total, why = compose(profile, accuracy, formed, perception)
    images = response_images(response.ids, response.prompt_length, judge.vocabulary)
    return Reward(
        total=total,
        accuracy=accuracy,
        format=formed,
        perception=perception,
        images=len(images),
        whole=sum(closed for _, closed in images),
        answer=said.partition(FINAL_ANSWER)[2].strip() or None,
        reasons={
            "accuracy": f"{accuracy:.3g} by the original's text rules",
            "format": f"THOUGHT and {FINAL_ANSWER} {'are' if formed else 'are not both'} in it",
            "perception": why,
        },
        looks=tuple(looks),
    )


def _grade(answer: str | None, response: Response) -> Grade:
    choices: dict[str, Any] = {} if response.options is None else {"options": response.options}
    return grade(answer, response.gold, **choices)


def compose(profile: Profile, accuracy: float, formed: float, perception: float | None) -> tuple[float, str]:
    """The weighted sum, and what became of R_pe in words."""
    total = profile.accuracy * accuracy + profile.format * formed
    if profile.only_right and not accuracy:
        return total, "counts with a right answer only"
    if perception is not None:
        return total + profile.perception * perception, f"{profile.aggregate} of {profile.look}"
    if profile.missing == "rescale":
        scale = (profile.accuracy + profile.format + profile.perception) / (profile.accuracy + profile.format)
        return total * scale, "no image: the other weights make up for it"
    return total, "no image"
