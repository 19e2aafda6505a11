"""Does a response have the format: ids that are a trajectory, ended, reasoning and then one answer (paper sec 4.1.2).

The ids are read by the parser that generation and the bench read with; what a prompt says is never looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omni_r1.grammar import response_images
from omni_r1.trajectory import FINAL_ANSWER, TAGS, Text, Trajectory
from omni_r1.vocabulary import ParseError, Vocabulary

IMAGE = "\N{OBJECT REPLACEMENT CHARACTER}"  # an image, where a response is looked at as text
_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str


def read(
    ids: Sequence[int], prompt_length: int, images: Sequence[tuple[int, bool]], vocabulary: Vocabulary
) -> Trajectory:
    """The trajectory of prompt and response, whose `images` are those of `response_images`: one that the prompt leaves
    open is the response's. Raises ParseError for ids that are none."""
    begins = min(prompt_length, images[0][0]) if images else prompt_length
    return vocabulary.parse(ids, begins)


def format_of(ids: Sequence[int], prompt_length: int, vocabulary: Vocabulary) -> Verdict:
    """Whether a response has the format, and why not: that of its trajectory, `form`."""
    try:
        trajectory = read(ids, prompt_length, response_images(ids, prompt_length, vocabulary), vocabulary)
    except ParseError as error:
        return Verdict(False, str(error))
    return form(trajectory, ids[prompt_length:], vocabulary)


def form(trajectory: Trajectory, response: Sequence[int], vocabulary: Vocabulary) -> Verdict:
    """Whether a trajectory's response, `response` in token ids, has the format, and why not.

    With any tag it is held to the templated form: reasoning and answer between their tags, each tag once and in order,
    nothing but space between the two and behind them. Without a tag it is held to the plain form: something, then
    `Final Answer:` once with the rest of its line, and nothing behind. Reasoning is text or an image, an answer is
    text. Tags are tokens: spelled in letters, where the tokenizer has the token, they break the format.
    """
    if not trajectory.ended:
        return Verdict(False, "it did not end")
    text = "".join(part.text if isinstance(part, Text) else IMAGE for part in trajectory.response)
    tags = _TAG.findall(text)
    for tag, token in vocabulary.tags.items():
        if tags.count(tag) != response.count(token):
            return Verdict(False, f"{tag} is spelled in letters")
    return _templated(text, tags) if tags else _plain(text)


def _templated(text: str, tags: list[str]) -> Verdict:
    for tag in TAGS:
        if tags.count(tag) != 1:
            return Verdict(False, f"{tag} occurs {tags.count(tag)} times")
    if tags != list(TAGS):
        return Verdict(False, f"{tags[0]} comes first" if tags[0] != TAGS[0] else "the tags are not in order")
    _, reasoning, between, answer, behind = _TAG.split(text)
    if between.strip():
        return Verdict(False, "something stands between reasoning and answer")
    return _parts(reasoning, answer, behind)


def _plain(text: str) -> Verdict:
    count = text.count(FINAL_ANSWER)
    if count != 1:
        return Verdict(False, f"{FINAL_ANSWER} occurs {count} times" if count else "no answer")
    reasoning, _, rest = text.partition(FINAL_ANSWER)
    answer, _, behind = rest.strip().partition("\n")
    return _parts(reasoning, answer, behind)


def _parts(reasoning: str, answer: str, behind: str) -> Verdict:
    faults = {
        "no reasoning": not reasoning.strip(),
        "no answer": not answer.strip(),
        "an image in the answer": IMAGE in answer,
        "something stands behind the answer": behind.strip(),
    }
    fault = next((name for name, found in faults.items() if found), None)
    return Verdict(fault is None, fault or "reasoning and one answer")
