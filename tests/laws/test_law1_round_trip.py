"""Law 1: parse(render(t)) == t, and any ids at all parse to a trajectory or to a ParseError."""

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from omni_r1.trajectory import TAGS, Image, Text, Trajectory
from omni_r1.vocabulary import ParseError, Vocabulary

CASES = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))

awkward = st.sampled_from(
    [*TAGS, "<racm3:break>", "<eoss>", "</s>", "<s>", "<pad>", "<image>", "IMGIMGAZ", "<reserved08706>"]
    + ["\ufffd", "  ", "\n\n", " a", "😀", "\u200d", "<reserved", "12856>", "the", "Ġ"]
)
short = st.text(max_size=8)
texts = st.lists(awkward | short, max_size=4).map(lambda parts: Text("".join(parts)))
images = st.binary(min_size=16, max_size=16).map(lambda codes: Image(tuple(byte % 64 for byte in codes)))
sides = st.lists(texts | images, max_size=4).map(tuple)


@CASES
@given(sides, sides, st.booleans())
def test_parse_inverts_render(vocabulary: Vocabulary, prompt, response, ended):
    trajectory = Trajectory(prompt, response, ended)
    rendered = vocabulary.render(trajectory)
    assert vocabulary.parse(rendered.ids, rendered.prompt_length) == trajectory
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@CASES
@given(st.data())
def test_any_ids_parse_or_say_why(vocabulary: Vocabulary, data: st.DataObject):
    role = st.sampled_from([vocabulary.boi, vocabulary.eoi, vocabulary.bos, vocabulary.eos, vocabulary.pad])
    code = st.sampled_from(vocabulary.codes.tolist())
    whole = st.just([vocabulary.boi, *vocabulary.codes[:16].tolist(), vocabulary.eoi])
    piece = st.integers(0, vocabulary.size - 1).map(lambda token: [token])
    run = st.tuples(code, st.integers(14, 18)).map(lambda pair: [pair[0]] * pair[1])
    anything = st.integers().map(lambda token: [token])
    runs = st.lists(whole | piece | role.map(lambda token: [token]) | run | anything, max_size=6)
    ids = [token for tokens in data.draw(runs) for token in tokens]
    length = data.draw(st.integers(-1, len(ids) + 1))
    try:
        parsed = vocabulary.parse(ids, length)
    except ParseError:
        return
    assert isinstance(parsed, Trajectory)
    again = vocabulary.render(parsed)
    assert vocabulary.parse(again.ids, again.prompt_length) == parsed
