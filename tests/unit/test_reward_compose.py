from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from omni_r1.errors import InputError
from omni_r1.model import CheckpointError, create
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import PROFILES, Band, Judge, Profile, Response, grade, score
from omni_r1.trajectory import TEMPLATES, Image, Text, Trajectory, plain, templated
from tiny import CODES, SIDE, write_files

S, WIDE, HIDDEN = SIDE * SIDE, 8, 32


@pytest.fixture(scope="module")
def judge(vocabulary) -> Judge:
    """With a band of images of the first eight codes, and a projection of random weights."""
    torch.manual_seed(0)
    codebook = torch.randn(CODES, WIDE)
    band = Band.learn(usual(256), codebook)
    return Judge(vocabulary, codebook, band, nn.Linear(HIDDEN, WIDE).requires_grad_(False))


def usual(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(8, (count, S), generator=torch.Generator().manual_seed(seed))


def image(seed: int) -> Image:
    return Image(tuple(usual(1, seed)[0].tolist()))


FLAT = Image((3,) * S)


def response(judge: Judge, *images: Image, answer: str = "red", template: str = "plain", **more) -> Response:
    thoughts = [part for each in images for part in (Text("THOUGHT: "), each)] or [Text("THOUGHT: none")]
    rendered = judge.vocabulary.render(TEMPLATES[template]([Text("What?")], thoughts, answer))
    return Response(rendered.ids, rendered.prompt_length, "red", **more)


def total(judge: Judge, profile: str, *images: Image, **more) -> float:
    return score([response(judge, *images, **more)], judge, PROFILES[profile])[0].total


@pytest.mark.parametrize("template", ["plain", "templated"])
@pytest.mark.parametrize("profile", ["paper", "default"])
def test_a_right_answer_has_full_accuracy_and_format(judge, template, profile):
    found = score([response(judge, image(1), template=template)], judge, PROFILES[profile])[0]
    assert (found.accuracy, found.format, found.images, found.whole, found.answer) == (1, 1, 1, 1, "red")
    weights = PROFILES[profile]
    assert found.perception is not None
    assert found.total == pytest.approx(weights.accuracy + weights.format + weights.perception * found.perception)
    assert found.reasons.keys() == {"accuracy", "format", "perception"}
    assert len(found.energies) == len(found.looks) == 1


def test_the_parts_are_apart(judge):
    responses = [response(judge), response(judge, answer="blue"), response(judge, image(1)), response(judge, FLAT)]
    cut = response(judge, image(1))
    responses.append(replace(cut, ids=cut.ids[:-1]))  # no end
    broken = response(judge, FLAT)
    at = broken.ids.index(judge.vocabulary.boi) + 2
    responses.append(replace(broken, ids=broken.ids[:at] + broken.ids[at + 1 :]))  # a code is gone
    found = score(responses, judge, PROFILES["default"])
    assert [each.accuracy for each in found] == [1, 0, 1, 1, 1, 0]
    assert [each.format for each in found] == [1, 1, 1, 1, 0, 0]
    assert [each.images for each in found] == [0, 0, 1, 1, 1, 1]
    assert [each.whole for each in found] == [0, 0, 1, 1, 1, 0]
    assert [each.perception for each in found] == pytest.approx([None, None, 1, 0, 1, 0])
    assert found[5].answer is None and "has 15 codes" in found[5].reasons["format"]
    assert [each.total for each in found] == pytest.approx([0.9, 0.1, 1.0, 0.9, 0.9, 0.0])


def test_all_at_once_is_one_by_one(judge):
    responses = [response(judge, *(image(k) for k in range(n)), answer="red" * (n % 2)) for n in (2, 0, 1, 3)]
    for profile in PROFILES.values():
        assert score(responses, judge, profile) == [score([each], judge, profile)[0] for each in responses]


def test_nothing_to_score(judge):
    assert score([], judge, PROFILES["default"]) == []


@pytest.mark.parametrize("images", [[image(1)], [FLAT], [image(1), FLAT], [image(1)] * 3], ids=str)
def test_drawing_never_costs_and_never_beats_a_right_answer(judge, images):
    right, wrong = total(judge, "default", *images), total(judge, "default", *images, answer="blue")
    assert right >= total(judge, "default")
    assert wrong == total(judge, "default", answer="blue") == pytest.approx(0.1)
    assert total(judge, "default") - wrong >= 0.8


def test_looks_alone_never_tell_wrong_answers_apart(judge):
    images = [image(1), FLAT, Image(tuple(range(8, 8 + S)))]
    assert len({total(judge, "default", each, answer="blue") for each in images}) == 1
    assert len({total(judge, "paper", each, answer="blue") for each in images}) == 3


def test_flat_wins_by_the_paper_and_loses_by_the_default(judge):
    assert total(judge, "paper", FLAT) == pytest.approx(1.0) and total(judge, "paper", image(1)) < 0.99
    assert total(judge, "default", FLAT) == pytest.approx(0.9) and total(judge, "default", image(1)) == 1.0


@pytest.mark.parametrize(("aggregate", "wanted"), [("mean", 2 / 3), ("min", 0), ("max", 1), ("median", 1)])
def test_aggregates(judge, aggregate, wanted):
    profile = replace(PROFILES["default"], aggregate=aggregate)
    found = score([response(judge, image(1), FLAT, image(1))], judge, profile)[0]
    assert found.perception == pytest.approx(wanted) and found.looks == pytest.approx((1, 0, 1))


def test_without_an_image(judge):
    bare = replace(PROFILES["paper"], accuracy=0.8, format=0.1, perception=0.1)
    assert score([response(judge)], judge, bare)[0].total == pytest.approx(0.9)
    assert score([response(judge)], judge, replace(bare, missing="rescale"))[0].total == pytest.approx(1.0)
    assert score([response(judge, image(1))], judge, replace(bare, look="none"))[0].perception is None


def test_an_image_open_in_the_prompt_is_looked_at(judge):
    whole = response(judge, image(1))
    given = whole.ids.index(judge.vocabulary.boi) + 5
    found = score([replace(whole, prompt_length=given)], judge, PROFILES["default"])[0]
    assert (found.total, found.images, found.whole) == (pytest.approx(1.0), 1, 1)


def test_pictures_of_the_question_are_not_looked_at(judge):
    rendered = judge.vocabulary.render(templated([FLAT, Text("What?")], [Text("Look: "), image(1)], "red"))
    found = score([Response(rendered.ids, rendered.prompt_length, "red")], judge, PROFILES["default"])[0]
    assert (found.images, found.perception) == (1, 1.0)


@pytest.mark.parametrize("alignment", ["next", "same"])
def test_hidden_states(judge, alignment):
    """The state before each code where the projection was trained so, the state of the code otherwise."""
    one = response(judge, image(1), image(2))
    states = torch.randn(len(one.ids), HIDDEN)
    judge = replace(judge, alignment=alignment)
    profile = Profile(accuracy=0.8, format=0.1, perception=0.1, look="hidden", tau=2.0)
    found = score([response(judge, hidden=torch.zeros(0, 0)), replace(one, hidden=states)][1:], judge, profile)[0]
    codes, wanted = judge.vocabulary.codes.tolist(), []
    for start in (k + 1 for k, token in enumerate(one.ids) if token == judge.vocabulary.boi):
        vectors = judge.codebook[torch.tensor([codes.index(token) for token in one.ids[start : start + S]])]
        start -= alignment == "next"
        projected = judge.projection(states[start : start + S])
        wanted.append(1 / (1 + nn.functional.mse_loss(projected, vectors).item() / 2))
    assert found.looks == pytest.approx(wanted)


def test_what_a_profile_needs_and_is_not_there(judge, vocabulary):
    bare = Judge(vocabulary, judge.codebook)
    with pytest.raises(InputError, match="field 'look': has no perception_band.json.*omni_r1.pesft.band"):
        bare.check(PROFILES["default"])
    with pytest.raises(InputError, match="field 'look'"):
        score([], bare, PROFILES["default"])
    hidden = replace(PROFILES["paper"], look="hidden")
    with pytest.raises(InputError, match="field 'look': has no perception.safetensors"):
        score([], bare, hidden)
    for states in (None, torch.zeros(3, HIDDEN)):
        with pytest.raises(InputError, match=r"^1: field 'hidden': states of"):
            score([response(judge, image(1), hidden=states)], judge, hidden)


def test_a_judge_of_parts_that_do_not_belong_together(judge, vocabulary):
    with pytest.raises(InputError, match="another codebook"):
        Judge(vocabulary, judge.codebook + 1, judge.band)
    with pytest.raises(InputError, match="field 'codebook'"):
        Judge(vocabulary, judge.codebook[1:])
    with pytest.raises(InputError, match="field 'projection'"):
        Judge(vocabulary, judge.codebook, projection=nn.Linear(HIDDEN, WIDE + 1))


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("accuracy", {"accuracy": -0.1}),
        ("accuracy", {"accuracy": 0.0, "format": 0.0}),
        ("accuracy", {"accuracy": 0.9, "format": 0.2}),
        ("format", {"format": float("nan")}),
        ("perception", {"perception": True}),
        ("tau", {"tau": 0}),
        ("tau", {"tau": "3"}),
        ("look", {"look": "nice"}),
        ("map", {"map": "log"}),
        ("aggregate", {"aggregate": "sum"}),
        ("missing", {"missing": "ignore"}),
        ("rules", {"rules": "mine"}),
        ("look", {"rules": "original", "look": "band"}),
        ("only_right", {"rules": "original", "only_right": True}),
    ],
)
def test_profiles_that_cannot_be(field, changed):
    with pytest.raises(InputError, match=f"field '{field}'"):
        replace(PROFILES["paper"], **changed)


def test_the_weights_of_every_profile_sum_to_one():
    for profile in PROFILES.values():
        assert profile.accuracy + profile.format + profile.perception == pytest.approx(1)


def test_the_answer_is_graded_as_the_bench_does(judge):
    for answer in ("red", "Red.", "blue", "the answer is red"):
        found = score([response(judge, answer=answer)], judge, PROFILES["default"])[0]
        assert found.accuracy == grade(answer, "red").correct


def test_original_scores_by_its_own_rules(judge):
    """A right answer in tags is worth nothing to it, and one that looks like the right one is."""
    assert total(judge, "original", template="templated") == 0
    assert total(judge, "original") == pytest.approx(1.0)
    assert total(judge, "original", FLAT) == pytest.approx(1.0)
    assert total(judge, "original", image(1)) < 0.99  # drawing costs
    similar = replace(response(judge, answer="unbalanced forces"), gold="balanced forces")
    assert score([similar], judge, PROFILES["original"])[0].accuracy == pytest.approx(0.9375, abs=1e-3)
    assert score([similar], judge, PROFILES["default"])[0].accuracy == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_ids_in_other_clothes(judge, profile):
    plain = response(judge, image(1))
    wanted = score([plain], judge, PROFILES[profile])
    for ids in (torch.tensor(plain.ids), np.array(plain.ids), tuple(plain.ids)):
        assert score([replace(plain, ids=ids)], judge, PROFILES[profile]) == wanted
    beyond = replace(plain, ids=[*plain.ids, -1, judge.vocabulary.size])
    assert score([beyond], judge, PROFILES[profile])[0].total < 1


@pytest.mark.parametrize("ids", [torch.zeros(1, 4, dtype=torch.long), [1.5], ["a"], 3])
def test_what_is_no_ids(ids):
    with pytest.raises(InputError, match="field 'ids'"):
        Response(ids, 0, "a")
    with pytest.raises(InputError, match="field 'gold': is empty"):
        Response([1], 0, " ")


def test_a_prompt_longer_than_the_response_it_is_of(judge):
    with pytest.raises(InputError, match="1: field 'prompt_length': must be from 0 to the 2 ids, not 3"):
        score([Response([1, 2], 3, "a")], judge, PROFILES["paper"])


def test_load_judge(judge, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_judge(create(write_files(tmp_path / "there")), tmp_path / "nowhere")
    omni = create(write_files(tmp_path))
    bare = load_judge(omni, tmp_path)
    assert bare.band is None and bare.projection is None
    projection, file = (
        nn.Linear(omni.model.config.hidden_size, bare.codebook.shape[1]),
        tmp_path / "perception.safetensors",
    )
    save_file(dict(projection.state_dict()), file, {"alignment": "same", "loss_weight": "1.0"})
    found = load_judge(omni, tmp_path)
    assert found.alignment == "same" and found.projection is not None
    assert torch.equal(found.projection.weight, projection.weight) and not found.projection.weight.requires_grad
    save_file(dict(projection.state_dict()), file, {"alignment": "other"})
    with pytest.raises(CheckpointError, match=r"perception.safetensors: its alignment is 'other'"):
        load_judge(omni, tmp_path)
    save_file(dict(nn.Linear(3, 4).state_dict()), file, {"alignment": "next"})
    with pytest.raises(CheckpointError, match="has no weight of"):
        load_judge(omni, tmp_path)
    file.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"perception.safetensors: cannot be read"):
        load_judge(omni, tmp_path)
    file.unlink()
    place = tmp_path / "perception_band.json"
    for content in ("{", "[]", "{}", '{"horizontal": 1}'):
        place.write_text(content)
        with pytest.raises(InputError, match=r"perception_band.json"):
            load_judge(omni, tmp_path)


def test_trajectories_that_only_begin(judge):
    """Any cut of a response is scored, and only the whole of it has the format."""
    whole = response(judge, image(1))
    cuts = [replace(whole, ids=whole.ids[:end]) for end in range(whole.prompt_length, len(whole.ids) + 1)]
    found = score(cuts, judge, PROFILES["default"])
    assert [each.format for each in found] == [0.0] * (len(cuts) - 1) + [1.0]
    assert found[0].answer is None and found[0].total == 0
    empty = judge.vocabulary.render(Trajectory((), plain([], [Text("a")], "red").response, True))
    assert score([Response(empty.ids, 0, "red")], judge, PROFILES["default"])[0].total == pytest.approx(0.9)
