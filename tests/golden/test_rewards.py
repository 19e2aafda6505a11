"""What the released reward returns on 54 texts and 21 cases of tokens, the profile `original` returns too."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from omni_r1.perpo.reward import PROFILES, original
from omni_r1.perpo.reward.compose import COMBINE, compose
from omni_r1.perpo.reward.original_expressions import same_expression
from omni_r1.perpo.reward.perception import code_distances, energies, smoothness

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
OTHER = {
    "hids": "the released code projects hidden states with new random weights in each process",
    "hids_again_new_W": "the same",
    "hids_same_input_other_W": "the same",
}


@pytest.fixture(scope="module")
def golden() -> dict:
    file = REFERENCE / "golden" / "rewards_golden.json"
    if not file.is_file():
        pytest.skip(f"the reference values are not at {file}")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def codebook() -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.randn(8192, 256)


@pytest.fixture(scope="module")
def distances(codebook) -> torch.Tensor:
    return code_distances(codebook)


def test_texts(golden):
    assert len(golden["text"]) == 54
    for case in golden["text"]:
        accuracy = original.accuracy(case["solution"], case["gt"])
        total, _ = compose(PROFILES["original"], accuracy, float(original.has_format(case["solution"])), None)
        assert accuracy == pytest.approx(case["out"]["acc"], abs=1e-6), case
        assert total == pytest.approx(case["out"]["score"], abs=1e-6), case


def test_images(golden, codebook, distances):
    """With each case's own settings; accuracy and format are 1 in all of them."""
    assert len(golden["perc"]) == 21 and {case["label"] for case in golden["perc"]} >= OTHER.keys()
    for case in golden["perc"]:
        if case["label"] in OTHER:
            continue
        told, side = case["kw"], case["kw"].get("pl_grid_h", 32)
        words = SimpleNamespace(boi=8197, eoi=8196, codes=torch.arange(4, 8196), image_length=side * side)
        weight = told.get("image_reward_weight", 0.05)
        profile = replace(
            PROFILES["original"],
            accuracy=0.9 * (1 - weight),
            format=0.1 * (1 - weight),
            perception=weight,
            tau=told.get("pl_tau", 3.0),
            map=told.get("pl_map", "inv"),
            aggregate=told.get("pl_seg_agg", "min"),
        )
        found = original.image_energies(case["ids"], words, codebook, distances)
        looks = smoothness(torch.tensor(found), profile.tau, profile.map).tolist()
        perception = COMBINE[profile.aggregate](looks) if looks else None
        assert compose(profile, 1.0, 1.0, perception)[0] == pytest.approx(case["out"]["score"], abs=1e-6), case["label"]
        if "image" in case["out"]:
            assert perception == pytest.approx(case["out"]["image"], abs=1e-6), case["label"]


def test_the_two_energies(golden, codebook, distances):
    """Of the first case's image: on its grid, and as a line."""
    ids = torch.tensor(golden["perc"][0]["ids"])
    codes = ids[(ids >= 4) & (ids < 8196)] - 4
    assert energies(codes[None], distances).sum().item() == pytest.approx(golden["tv2d"][0], abs=1e-5)
    assert original.line_energy(codebook[codes]) == pytest.approx(golden["e1d"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("x=3", "x = 3", True),
        (r"\frac{1}{2}", "0.5", True),
        ("1/2", r"\dfrac12", True),
        (r"\boxed{7}", "7", True),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        (r"\left(\frac{1}{2}, 3\right)", "(0.5, 3)", True),
        ("(1, 2)", "[1, 2]", False),
        ("2/4", "1/2", False),
        ("5.5+0.5", "6", False),
        ("6*0.25", "1.5", True),
        ("1+", "1.5*1", False),
        ("1/0", "1.5*1", False),
        ("2x+3", "3+2x", False),  # variables would need an algebra system: the released code says equal
        (r"2√3", r"2\sqrt{3}", True),  # the released code says different
    ],
)
def test_expressions(answer, gold, same):
    assert same_expression(answer, gold) is same


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "answer",
    [
        *(
            "9**9**9**9",
            "9^9^9^9",
            "99999999!",
            "(x+1)**99999",
            "10**10**8",
            "(" * 5000,
            "2^" * 49 + "2",
            "-" * 99 + "1",
        ),
        *("C" + "1" * 5000, ". " * 20_000 + "a", "1" * 20_000, "(1" * 3000, "sqrt" * 3000, "\\frac" * 3000),
        *("Ⅻ", "ⅰ)", "İ", "Ⅳ. x", ""),
    ],
)
def test_it_always_ends(answer):
    for gold in ("0.5^2", "x^2 + 1.5", "B. 12", "C6H12O6", "methyl-2-amine", "7"):
        assert 0 <= original.accuracy(f"THOUGHT Final Answer: {answer}", gold) <= 1
