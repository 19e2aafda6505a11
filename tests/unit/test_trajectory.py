import pytest

from omni_r1.trajectory import (
    FINAL_ANSWER,
    TAGS,
    Image,
    Text,
    Trajectory,
    TrajectoryError,
    interleave,
    plain,
    templated,
)

A, B = Image((1, 2)), Image((3, 4))


def test_normal_form():
    built = Trajectory((Text("a"), Text(""), Text("b"), A, Text("")), (Text(""), B, B, Text("c"), Text("d")))
    assert built == Trajectory((Text("ab"), A), (B, B, Text("cd")))
    assert hash(built) == hash(Trajectory((Text("ab"), A), (B, B, Text("cd"))))


def test_views():
    built = Trajectory((A, Text("look")), (Text("x"), B, Text(" y "), A))
    assert tuple(built.images) == (A, B, A)
    assert tuple(built.response_images) == (B, A)
    assert built.response_text == "x<image_1> y <image_2>"


@pytest.mark.parametrize("side", ["prompt", "response"])
def test_lone_surrogate(side):
    with pytest.raises(TrajectoryError):
        Trajectory(**({"prompt": ()} | {side: (Text("a\ud800"),)}))


@pytest.mark.parametrize("segment", ["text", None, 3])
def test_wrong_segment(segment):
    with pytest.raises(TrajectoryError):
        Trajectory((segment,))


def test_json_round_trip():
    built = Trajectory((Text("q\ufffd"), A), (Text("r"), B), ended=True)
    stored = built.to_json()
    assert stored == {
        "prompt": [{"text": "q\ufffd"}, {"image": [1, 2]}],
        "response": [{"text": "r"}, {"image": [3, 4]}],
        "ended": True,
    }
    assert Trajectory.from_json(stored) == built
    assert Trajectory.from_json(stored | {"id": 7}) == built


@pytest.mark.parametrize(
    "stored",
    [
        {"prompt": "text"},
        {"prompt": None},
        {"prompt": [3]},
        {"prompt": [{}]},
        {"prompt": [{"text": 3}]},
        {"prompt": [{"image": 3}]},
        {"prompt": [{"image": [1.0]}]},
        {"prompt": [{"image": [True]}]},
        {"prompt": [{"image": [-1]}]},
        {"prompt": [{"text": "a", "image": [1]}]},
        {"prompt": [], "response": {}},
        {"prompt": [], "ended": 1},
        {"prompt": [{"text": "\udfff"}]},
    ],
)
def test_malformed_json(stored):
    with pytest.raises(TrajectoryError):
        Trajectory.from_json(stored)


def test_interleave():
    assert interleave("a<image>b<image>", [A, B]) == [Text("a"), A, Text("b"), B, Text("")]
    assert interleave("no mark", [A, B]) == [A, B, Text("no mark")]
    assert interleave("no mark", []) == [Text("no mark")]
    assert interleave("[1] x", [A], mark="[1]") == [Text(""), A, Text(" x")]
    with pytest.raises(TrajectoryError):
        interleave("a<image>b<image>", [A])
    with pytest.raises(TrajectoryError):
        interleave("a<image>", [])


def test_plain():
    asked = plain([A, Text("why?")])
    assert asked == Trajectory((A, Text("why?\n")))
    told = plain([A, Text("why?")], [Text("look"), B], "so")
    assert told == Trajectory((A, Text("why?\n")), (Text("look"), B, Text(f"\n{FINAL_ANSWER} so")), ended=True)
    assert told.prompt == asked.prompt


def test_templated():
    asked = templated([Text("why?"), A])
    assert asked.response == () and not asked.ended
    assert asked.prompt[0] == Text("You are a helpful assistant.\nUser: why?") and asked.prompt[1] == A
    assert asked.prompt[2].text.endswith("\nAssistant:") and all(tag in asked.prompt[2].text for tag in TAGS)
    told = [templated([Text("why?"), A], [Text("look"), B], "so", lead=lead) for lead in range(8)]
    assert len(set(told)) == 8
    for each in told:
        assert each.prompt == asked.prompt and each.ended
        text = each.response_text
        assert text.endswith(
            f"{TAGS.reasoning_open}look<image_1>{TAGS.reasoning_close}{TAGS.answer_open}so{TAGS.answer_close}"
        )
