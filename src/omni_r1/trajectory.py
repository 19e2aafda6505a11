"""The one type of this project: a trajectory is text and images in order, split into prompt and response.

Readers make trajectories, PeSFT learns them, a backend samples them, PeRPO scores them, the bench grades them. What a
trajectory is in token ids is the `Vocabulary`'s business.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from omni_r1.errors import OmniError

IMAGE_MARK = "<image>"  # where a question's picture goes, in the text of users and data sets
FINAL_ANSWER = "Final Answer:"


class TrajectoryError(OmniError):
    """A trajectory that cannot be: a wrong segment, text that is no Unicode, marks and images that do not match."""


@dataclass(frozen=True)
class Text:
    """A piece of text, tag names such as `<reserved12856>` included."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TrajectoryError(f"text must be a string, not {type(self.text).__name__}")
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise TrajectoryError(f"text is not valid Unicode at character {error.start}") from error


@dataclass(frozen=True)
class Image:
    """An image as its codes, indices into the codebook, (S,) in row-major order."""

    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(not isinstance(code, int) or isinstance(code, bool) or code < 0 for code in self.codes):
            raise TrajectoryError("image codes must be whole numbers from 0")


Segment = Text | Image


def merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Normal form: no empty text, neighbouring texts as one."""
    out: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Text):
            if not segment.text:
                continue
            if out and isinstance(out[-1], Text):
                out[-1] = Text(out[-1].text + segment.text)
                continue
        elif not isinstance(segment, Image):
            raise TrajectoryError(f"a segment is Text or Image, not {type(segment).__name__}")
        out.append(segment)
    return tuple(out)


@dataclass(frozen=True)
class Trajectory:
    """A prompt and the response to it. `ended`: the response closed with the end token, rather than being cut off."""

    prompt: tuple[Segment, ...]
    response: tuple[Segment, ...] = ()
    ended: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", merged(self.prompt))
        object.__setattr__(self, "response", merged(self.response))

    @property
    def images(self) -> list[Image]:
        return [segment for segment in self.prompt + self.response if isinstance(segment, Image)]

    @property
    def response_images(self) -> list[Image]:
        return [segment for segment in self.response if isinstance(segment, Image)]

    @property
    def response_text(self) -> str:
        """The response with its images as `<image_k>`, k from 1."""
        parts, images = [], 0
        for segment in self.response:
            if isinstance(segment, Text):
                parts.append(segment.text)
            else:
                images += 1
                parts.append(f"<image_{images}>")
        return "".join(parts)

    def to_json(self) -> dict[str, Any]:
        def side(segments: tuple[Segment, ...]) -> list[dict[str, Any]]:
            return [{"text": s.text} if isinstance(s, Text) else {"image": list(s.codes)} for s in segments]

        return {"prompt": side(self.prompt), "response": side(self.response), "ended": self.ended}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trajectory":
        """The inverse of `to_json`; other keys are ignored. Raises TrajectoryError naming the key at fault."""

        def side(key: str) -> tuple[Segment, ...]:
            listed = data.get(key, [])
            if not isinstance(listed, list):
                raise TrajectoryError(f"'{key}' must be a list of segments")
            segments: list[Segment] = []
            for number, item in enumerate(listed, 1):
                if not isinstance(item, dict) or len(item.keys() & {"text", "image"}) != 1:
                    raise TrajectoryError(f"'{key}', segment {number}: must have either 'text' or 'image'")
                if "image" in item and not isinstance(item["image"], list):
                    raise TrajectoryError(f"'{key}', segment {number}: 'image' must be a list of codes")
                segments.append(Text(item["text"]) if "text" in item else Image(tuple(item["image"])))
            return tuple(segments)

        ended = data.get("ended", False)
        if not isinstance(ended, bool):
            raise TrajectoryError("'ended' must be true or false")
        return cls(side("prompt"), side("response"), ended)


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def interleave(text: str, images: Sequence[Image], mark: str = IMAGE_MARK) -> list[Segment]:
    """Text with each `mark` replaced by the next image. Without any mark the images go first.

    Raises TrajectoryError where marks and images do not match in number.
    """
    pieces = text.split(mark)
    if len(pieces) == 1:
        return [*images, Text(text)]
    if len(pieces) - 1 != len(images):
        raise TrajectoryError(f"{counted(len(pieces) - 1, f'{mark} mark')} for {counted(len(images), 'image')}")
    out: list[Segment] = [Text(pieces[0])]
    for image, piece in zip(images, pieces[1:], strict=True):
        out += [image, Text(piece)]
    return out


class Tags(NamedTuple):
    """The four tag tokens of the templated form, by the names they have in the published tokenizer."""

    reasoning_open: str = "<reserved12856>"
    reasoning_close: str = "<reserved12857>"
    answer_open: str = "<reserved12866>"
    answer_close: str = "<reserved12867>"


TAGS = Tags()

SYSTEM = "You are a helpful assistant.\nUser: "  # the original's words: published models were trained on them
INSTRUCTION = (
    "\nThink first, in text and with pictures you draw, between {0} and {1}; "
    "then give the answer alone between {2} and {3}."
)
LEADS = (
    "Let me look at this step by step.",
    "I will work it out with a drawing.",
    "First, what the picture shows.",
    "Step by step, then.",
    "I start from what can be seen.",
    "Drawing it will help.",
    "One step after the other.",
    "Here is how I see it.",
)


def plain(question: Iterable[Segment], rationale: Iterable[Segment] = (), answer: str | None = None) -> Trajectory:
    """Question, newline, rationale, `Final Answer:`. Without an answer it is only the prompt (paper.md section 2)."""
    prompt = (*question, Text("\n"))
    if answer is None:
        return Trajectory(prompt)
    return Trajectory(prompt, (*rationale, Text(f"\n{FINAL_ANSWER} {answer}")), ended=True)


def templated(
    question: Iterable[Segment], rationale: Iterable[Segment] = (), answer: str | None = None, *, lead: int = 0
) -> Trajectory:
    """The form with tags (paper.md section 2); `lead` chooses one of eight phrases that open the response."""
    prompt = (Text(SYSTEM), *question, Text(INSTRUCTION.format(*TAGS) + "\nAssistant:"))
    if answer is None:
        return Trajectory(prompt)
    opening = Text(f" {LEADS[lead % len(LEADS)]}{TAGS.reasoning_open}")
    closing = Text(f"{TAGS.reasoning_close}{TAGS.answer_open}{answer}{TAGS.answer_close}")
    return Trajectory(prompt, (opening, *rationale, closing), ended=True)


TEMPLATES = {"plain": plain, "templated": templated}
_TAG_PATTERN = re.compile("(" + "|".join(re.escape(tag) for tag in TAGS) + ")")
_SPECIAL_END = re.compile(r"(?:\s*<(?:/s|s|pad|eoss|racm3:break|reserved\d+|image_\d+)>)+\s*$")


def split_tags(text: str) -> list[str]:
    """Text cut at its tags, the tags included as pieces of their own, no empty piece."""
    return [piece for piece in _TAG_PATTERN.split(text) if piece]


def extract_answer(response: str) -> str | None:
    """The final answer in the text of a response, None where there is none; the last one wins.

    The templated form puts it between the answer tags, the plain form after `Final Answer:` up to the end of the line.
    Special tokens and drawings that follow the answer are no part of it.
    """
    tagged = re.findall(re.escape(TAGS.answer_open) + "(.*?)" + re.escape(TAGS.answer_close), response, re.DOTALL)
    if tagged:
        return _SPECIAL_END.sub("", tagged[-1]).strip()
    _, mark, rest = response.rpartition(FINAL_ANSWER)
    said = _SPECIAL_END.sub("", rest.strip().split("\n")[0]).strip()
    return said if mark and said else None
