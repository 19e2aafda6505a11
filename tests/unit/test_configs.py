from pathlib import Path

import pytest

from omni_r1.option_parser import parse
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.zero.options import BootstrapOptions

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - set((FOLDER / "verl").iterdir()))  # those tests/with_verl loads
TRAINING = ["--model-path", "a", "--train-data", "b", "--output-path", "c"]
VERBS = {
    "pesft": (PesftOptions, TRAINING),
    "perpo": (PerpoOptions, TRAINING),
    "bootstrap": (BootstrapOptions, ["--input", "a", "--model-path", "b", "--output-path", "c"]),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    verb = path.parent.name
    options, needed = VERBS[verb]
    assert parse(options, ["--config", str(path), *needed], verb)


def test_there_are_recipes():
    assert CONFIGS
