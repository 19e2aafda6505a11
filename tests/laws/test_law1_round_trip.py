"""Law 1: parse(render(t)) == t, and any ids at all parse to a trajectory or to a ParseError."""

import hypothesis.strategies as st
from hypothesis import given, settings

from omni_r1.trajectory import TAGS, Image, Segment, Text, Trajectory
from omni_r1.vocabulary import ParseError, Vocabulary

CASES = settings(max_examples=10_000, deadline=None)
CODES, LENGTH = 64, 16
PIECES = [
    *TAGS,
    *("<racm3:break>", "<eoss>", "</s>", "<s>", "<pad>", "<unk>", "<image>", "IMGIMGAZ", "<reserved08706>"),
    *("\ufffd", "", " ", "  ", "\n\n", " a", "😀", "\u200d", "e\u0301", "<reserved", "12856>", "the", "Ġ", "\0"),
]


def segments(recipe: bytes, words: str) -> list[Segment]:
    """One segment for every byte: drawing bytes is what makes 10,000 cases a matter of seconds."""
    made: list[Segment] = []
    for byte in recipe:
        if byte < len(PIECES):
            made.append(Text(PIECES[byte]))
        elif byte < 128:
            made.append(Text(words[byte % 8 :]))
        else:
            made.append(Image(tuple((byte * step) % CODES for step in range(LENGTH))))
    return made


@CASES
@given(st.binary(max_size=6), st.binary(max_size=6), st.text(max_size=8), st.booleans())
def test_parse_inverts_render(vocabulary: Vocabulary, asked: bytes, said: bytes, words: str, ended: bool):
    trajectory = Trajectory(tuple(segments(asked, words)), tuple(segments(said, words)), ended)
    rendered = vocabulary.render(trajectory)
    assert vocabulary.parse(rendered.ids, rendered.prompt_length) == trajectory
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


def tokens(vocabulary: Vocabulary, recipe: bytes, stray: int) -> list[int]:
    """Whole images, images one code off, and single tokens of every kind, ids outside the vocabulary among them."""
    codes = vocabulary.codes.tolist()
    roles = [vocabulary.boi, vocabulary.eoi, vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.image, stray]
    ids: list[int] = []
    for byte in recipe:
        if byte < 64:
            ids.append(roles[byte % len(roles)])
        elif byte < 128:
            ids += [vocabulary.boi, *codes[:LENGTH], vocabulary.eoi]
        elif byte < 160:
            ids += [codes[byte % CODES]] * (LENGTH - 1 + byte % 3)
        else:
            ids.append(byte * 7 % vocabulary.size)
    return ids


@CASES
@given(st.binary(max_size=10), st.integers(), st.integers(-1, 60))
def test_any_ids_parse_or_say_why(vocabulary: Vocabulary, recipe: bytes, stray: int, prompt_length: int):
    ids = tokens(vocabulary, recipe, stray)
    try:
        parsed = vocabulary.parse(ids, prompt_length)
    except ParseError:
        return
    again = vocabulary.render(parsed)
    assert vocabulary.parse(again.ids, again.prompt_length) == parsed
