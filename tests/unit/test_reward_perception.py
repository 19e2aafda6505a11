import json

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

import omni_r1
from omni_r1 import shipped
from omni_r1.data.miniature.tiles import draw
from omni_r1.data.miniature.world import TASKS, sample
from omni_r1.errors import InputError
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import PROFILES, Band, Response, energies, score, smoothness
from omni_r1.perpo.reward.perception import code_distances, hidden_distances
from omni_r1.trajectory import Image, Text, plain

PAIRS = 1000


def plain_energies(codes: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    side = round(codes.shape[1] ** 0.5)
    grid = codebook.double()[codes].view(-1, side, side, codebook.shape[1])
    across = (grid[:, :, 1:] - grid[:, :, :-1]).square().sum(-1).mean((1, 2))
    down = (grid[:, 1:] - grid[:, :-1]).square().sum(-1).mean((1, 2))
    return torch.stack([across, down], 1) / codebook.shape[1]


@pytest.mark.parametrize(("codes", "wide", "side"), [(8192, 256, 32), (143, 32, 8), (7, 3, 2), (5000, 16, 5)])
def test_energies_are_the_papers(codes, wide, side):
    torch.manual_seed(0)
    codebook = torch.randn(codes, wide) * 0.1 + 3.0
    images = torch.randint(codes, (3, side * side))
    found = energies(images, code_distances(codebook))
    assert found.shape == (3, 2)
    assert torch.allclose(found.double(), plain_energies(images, codebook), rtol=1e-5, atol=1e-9)


def test_energies_of_one_code_are_nothing_and_axes_are_apart():
    distances = code_distances(torch.randn(9, 4))
    assert energies(torch.full((2, 16), 3), distances).tolist() == [[0, 0], [0, 0]]
    columns = torch.tensor([[1, 2, 1, 2] * 4])
    across, down = energies(columns, distances)[0].tolist()
    assert across == pytest.approx(distances[1, 2].item()) and down == 0
    assert energies(torch.zeros(0, 16, dtype=torch.long), distances).shape == (0, 2)


@pytest.mark.parametrize("length", [0, 1, 2, 15, 17])
def test_energies_of_what_is_no_square(length):
    with pytest.raises(InputError, match="codes"):
        energies(torch.zeros(1, length, dtype=torch.long), torch.zeros(2, 2))


def test_smoothness():
    found = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert smoothness(found, 3.0).tolist() == [0.5, 1.0]
    assert smoothness(found.sum(1), 3.0).tolist() == [0.5, 1.0]
    assert smoothness(found, 3.0, "exp").tolist() == pytest.approx([np.exp(-1), 1.0])


def test_hidden_distances():
    torch.manual_seed(0)
    projection, codebook = nn.Linear(6, 4), torch.randn(9, 4)
    states, codes = torch.randn(3, 16, 6), torch.randint(9, (3, 16))
    found = hidden_distances(states, codes, projection, codebook)
    plainly = [nn.functional.mse_loss(projection(states[i]), codebook[codes[i]]).item() for i in range(3)]
    assert found.tolist() == pytest.approx(plainly)


@pytest.fixture(scope="module")
def band_and_book() -> tuple[Band, torch.Tensor]:
    torch.manual_seed(0)
    codebook = torch.randn(20, 4)
    return Band.learn(torch.randint(8, (200, 16)), codebook), codebook


def test_band_scores_the_inside_and_falls_off_on_both_sides(band_and_book):
    band, _ = band_and_book
    usual = torch.arange(8).repeat(2).expand(5, -1)
    middle, low, high = (sum(getattr(band.horizontal, name) for name in names) / len(names) for names in EDGES)
    at = (band.vertical.low + band.vertical.high) / 2
    across = torch.tensor([middle, low * 0.5, low * 0.25, high + band.horizontal.scale, 1e9])
    found = band.score(usual, torch.stack([across, torch.full((5,), at)], 1))
    assert found.tolist() == pytest.approx([1, 0.5, 0.25, np.exp(-1), 0], abs=1e-5)
    strange = torch.full((1, 16), 19)  # a code that never came
    assert band.score(strange, torch.tensor([[middle, at]])).item() < 0.1


EDGES = (("low", "high"), ("low",), ("high",))


def test_band_goes_through_json(band_and_book):
    band, codebook = band_and_book
    again = Band.from_json(json.loads(json.dumps(band.to_json())))
    assert again == band and again.images == 200 and sum(again.counts) == 3200
    again.check(codebook)
    for other in (codebook + 1e-3, codebook[:-1]):
        with pytest.raises(InputError, match="field 'band': was learned with another codebook"):
            again.check(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("horizontal", None),
        ("vertical", {"low": 0, "high": 1}),
        ("vertical", {"low": 0, "high": 1, "scale": 0}),
        ("surprise", {"low": 2, "high": 1, "scale": 1}),
        ("surprise", {"low": 0, "high": float("nan"), "scale": 1}),
        ("surprise", {"low": 0, "high": "1", "scale": 1}),
        ("counts", []),
        ("counts", [1, -1]),
        ("counts", [1, True]),
        ("counts", "12"),
        ("images", 0),
        ("images", 1.5),
        ("digest", None),
    ],
)
def test_band_from_bad_json(band_and_book, field, value):
    with pytest.raises(InputError, match=f"field '{field}'"):
        Band.from_json(band_and_book[0].to_json() | {field: value})


def test_band_of_nothing():
    with pytest.raises(InputError, match="no images"):
        Band.learn(torch.zeros(0, 16, dtype=torch.long), torch.randn(3, 2))


def test_band_of_images_that_are_all_alike():
    codebook = torch.randn(5, 4)
    images = torch.tensor([0, 1] * 8).expand(3, -1)
    band = Band.learn(images, codebook)
    assert band.score(images, energies(images, code_distances(codebook))).tolist() == pytest.approx([1, 1, 1])


# --- the miniature: what the two profiles think of step images and of images that pretend to be ones ------------------


@pytest.fixture(scope="module")
def miniature() -> omni_r1.model.Omni:
    return omni_r1.load("miniature")


@pytest.fixture(scope="module")
def step_images(miniature) -> torch.Tensor:
    """(PAIRS, S) codes of gold step images of the bench's side, which no band was learned from."""
    rng, grids = np.random.default_rng(1), []
    while len(grids) < PAIRS:
        for task in TASKS:
            grids += [step.grid for step in sample(task, rng, held_out=True).steps]
    pictures = [Picture.fromarray(draw(grid)) for grid in grids[:PAIRS]]
    return miniature.vocabulary.tokens_to_codes(miniature.encode(pictures))


def totals(miniature, images: torch.Tensor, profile: str) -> torch.Tensor:
    """(n,) rewards of right answers, each with one image."""
    judge, words = load_judge(miniature, shipped.MODEL), miniature.vocabulary
    responses = []
    for codes in images.tolist():
        rendered = words.render(plain([Text("What?")], [Text("Look. "), Image(tuple(codes))], "red"))
        responses.append(Response(rendered.ids, rendered.prompt_length, "red"))
    return torch.tensor([each.total for each in score(responses, judge, PROFILES[profile])])


def pretenders(steps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Images of no meaning: of one code (any; a usual one), of random codes, half the one and half the other."""
    draw, shape = torch.Generator().manual_seed(0), steps.shape
    usual = steps.flatten()[torch.randint(steps.numel(), shape[:1], generator=draw)]
    flat = torch.randint(143, shape[:1], generator=draw)[:, None].expand(shape)
    noise = torch.randint(143, shape, generator=draw)
    half = torch.cat([usual[:, None].expand(shape)[:, : shape[1] // 2], noise[:, shape[1] // 2 :]], 1)
    return {"flat": flat, "usual flat": usual[:, None].expand(shape), "noise": noise, "half": half}


@pytest.mark.parametrize("kind", ["flat", "usual flat", "noise", "half"])
def test_what_pretends_scores_below_step_images(miniature, step_images, kind):
    real = totals(miniature, step_images, "default")
    false = totals(miniature, pretenders(step_images)[kind], "default")
    assert (false < real).float().mean() >= 0.95


def test_the_papers_profile_likes_a_flat_image_best(miniature, step_images):
    real, flat = totals(miniature, step_images, "paper"), totals(miniature, pretenders(step_images)["flat"], "paper")
    assert (flat > real).all() and flat.min() == pytest.approx(1.0)
