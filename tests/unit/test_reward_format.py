import random

import pytest

from omni_r1.perpo.reward import format_of
from omni_r1.trajectory import TAGS, Image, Text, Trajectory, plain, templated
from omni_r1.vocabulary import Vocabulary

OPEN, CLOSE, ASK, END = TAGS


def picture(vocabulary: Vocabulary, code: int = 0) -> Image:
    return Image((code,) * vocabulary.image_length)


def judged(vocabulary: Vocabulary, *response: str | Image, ended: bool = True, prompt: str = "What?\n"):
    segments = tuple(Text(part) if isinstance(part, str) else part for part in response)
    rendered = vocabulary.render(Trajectory((Text(prompt),), segments, ended))
    return format_of(rendered.ids, rendered.prompt_length, vocabulary)


@pytest.mark.parametrize("template", [plain, templated])
@pytest.mark.parametrize("drawn", [0, 1, 3])
def test_both_templates_have_the_format(vocabulary, template, drawn):
    rationale = [part for k in range(drawn) for part in (Text(f"THOUGHT {k}: look. "), picture(vocabulary, k))]
    rendered = vocabulary.render(template([Text("What?")], [Text("So: "), *rationale], "red"))
    assert format_of(rendered.ids, rendered.prompt_length, vocabulary).ok


GOOD = {
    "no lead": [f"{OPEN}a{CLOSE}{ASK}7{END}"],
    "space between": [f"x{OPEN}a{CLOSE} \n{ASK} 7 {END}\n"],
    "reasoning of an image": [OPEN, 1, f"{CLOSE}{ASK}7{END}"],
    "an image before the tags": [1, f"{OPEN}a{CLOSE}{ASK}7{END}"],
    "Final Answer: inside the reasoning": [f"{OPEN}Final Answer: is a phrase{CLOSE}{ASK}7{END}"],
    "answer on the next line": ["a\nFinal Answer:\n7\n"],
    "an image is the reasoning": [1, "Final Answer: 7"],
}
BAD = {
    "nothing": ([], "no answer"),
    "only text": (["So it is 7"], "no answer"),
    "only an image": ([1], "no answer"),
    "two plain answers": (["a\nFinal Answer: 7\nFinal Answer: 8"], "occurs 2 times"),
    "two answers in tags": ([f"{OPEN}a{CLOSE}{ASK}7{END}{ASK}8{END}"], "occurs 2 times"),
    "text behind the plain answer": (["a\nFinal Answer: 7\nOr so."], "behind the answer"),
    "text behind the tags": ([f"{OPEN}a{CLOSE}{ASK}7{END} or so"], "behind the answer"),
    "an image behind the plain answer": (["a\nFinal Answer: 7\n", 1], "behind the answer"),
    "an image behind the tags": ([f"{OPEN}a{CLOSE}{ASK}7{END}", 1], "behind the answer"),
    "an image in the plain answer": (["a\nFinal Answer: 7", 1], "image in the answer"),
    "an image as the plain answer": (["a\nFinal Answer: ", 1], "image in the answer"),
    "an image in the answer's tags": ([f"{OPEN}a{CLOSE}{ASK}", 1, END], "image in the answer"),
    "no reasoning before the plain answer": (["\nFinal Answer: 7"], "no reasoning"),
    "nothing in the reasoning's tags": ([f"a{OPEN} {CLOSE}{ASK}7{END}"], "no reasoning"),
    "no plain answer": (["a\nFinal Answer: \n"], "no answer"),
    "nothing in the answer's tags": ([f"{OPEN}a{CLOSE}{ASK} {END}"], "no answer"),
    "no tags of an answer": ([f"{OPEN}a{CLOSE}7"], "occurs 0 times"),
    "answer before reasoning": ([f"{ASK}7{END}{OPEN}a{CLOSE}"], "comes first"),
    "tags across": ([f"{OPEN}a{ASK}{CLOSE}7{END}"], "not in order"),
    "text between": ([f"{OPEN}a{CLOSE}so{ASK}7{END}"], "between reasoning and answer"),
    "an image between": ([f"{OPEN}a{CLOSE}", 1, f"{ASK}7{END}"], "between reasoning and answer"),
}


def filled(vocabulary: Vocabulary, parts: list) -> list[str | Image]:
    return [part if isinstance(part, str) else picture(vocabulary, part) for part in parts]


@pytest.mark.parametrize("name", GOOD)
def test_good(vocabulary, name):
    assert judged(vocabulary, *filled(vocabulary, GOOD[name])).ok


@pytest.mark.parametrize("name", BAD)
def test_bad(vocabulary, name):
    parts, reason = BAD[name]
    verdict = judged(vocabulary, *filled(vocabulary, parts))
    assert not verdict.ok and reason in verdict.reason


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
def test_what_does_not_end_has_no_format(vocabulary, parts):
    assert judged(vocabulary, *filled(vocabulary, parts), ended=False).reason == "it did not end"


@pytest.mark.parametrize(
    "prompt", [f"Say {OPEN}a{CLOSE}{ASK}7{END}", "Say\nFinal Answer: 7\n", f"What is {ASK}? ", "What is Final Answer:"]
)
def test_what_the_question_says_does_not_count(vocabulary, prompt):
    assert judged(vocabulary, "a\nFinal Answer: 7", prompt=prompt).ok
    assert judged(vocabulary, f"{OPEN}a{CLOSE}{ASK}7{END}", prompt=prompt).ok
    assert judged(vocabulary, "", prompt=prompt).reason == "no answer"


def test_tags_in_letters_are_no_tags(vocabulary):
    spelled = [token for part in (OPEN, "a", CLOSE, ASK, "7", END) for token in vocabulary._encode(part)]
    start = [vocabulary.bos, *vocabulary.encode_text("What?\n")]
    verdict = format_of([*start, *spelled, vocabulary.eos], len(start), vocabulary)
    assert not verdict.ok and "in letters" in verdict.reason
    whole = [*vocabulary.encode_text(f"{OPEN}a{CLOSE}{ASK}7{END}")]
    verdict = format_of([*start, *whole, *vocabulary._encode(END), vocabulary.eos], len(start), vocabulary)
    assert not verdict.ok and "in letters" in verdict.reason


def test_an_image_that_the_prompt_leaves_open(vocabulary):
    codes, S = vocabulary.codes.tolist(), vocabulary.image_length
    start = [vocabulary.bos, *vocabulary.encode_text("What?\n"), vocabulary.boi, *codes[:3]]
    rest = [*codes[3:S], vocabulary.eoi]
    answer = [*vocabulary.encode_text("\nFinal Answer: 7"), vocabulary.eos]
    assert format_of([*start, *rest, *answer], len(start), vocabulary).ok  # it is the reasoning
    assert "expected 16" in format_of([*start, *rest[1:], *answer], len(start), vocabulary).reason
    assert not format_of([*start, *rest], len(start), vocabulary).ok


def test_broken_images(vocabulary):
    """What no grammar has kept whole (mode unrestricted), and what was cut off inside an image."""
    codes, S, words = vocabulary.codes.tolist(), vocabulary.image_length, vocabulary
    start = [words.bos, *words.encode_text("What?\n")]
    answer = [*words.encode_text("\nFinal Answer: 7"), words.eos]
    whole = [words.boi, *codes[:S], words.eoi]
    assert format_of([*start, *whole, *answer], len(start), words).ok
    broken = [whole[:-2] + whole[-1:], whole[:-1], whole[:1] + whole, whole[1:], [*whole[:-1], 5, *whole[-1:]]]
    broken += [[words.boi, words.eoi], [words.eoi], codes[:1], [words.boi], [words.image], [words.bos], [words.pad]]
    for image in broken:
        assert not format_of([*start, *image, *answer], len(start), words).ok, image
    for end in range(1, S + 2):
        verdict = format_of([*start, *whole[:end]], len(start), words)
        assert not verdict.ok and f"has {end - 1} codes" in verdict.reason


def test_any_ids_get_a_verdict(vocabulary):
    rng = random.Random(0)
    for _ in range(2000):
        ids = rng.choices([*range(-2, vocabulary.size + 2)], k=rng.randrange(40))
        assert isinstance(format_of(ids, rng.randrange(len(ids) + 1), vocabulary).ok, bool)
