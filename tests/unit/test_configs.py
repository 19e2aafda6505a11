from pathlib import Path

import pytest

from omni_r1.option_parser import parse
from omni_r1.options import PerpoOptions, PesftOptions

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - set((FOLDER / "verl").iterdir()))  # those tests/with_verl loads
OPTIONS = {"pesft": PesftOptions, "perpo": PerpoOptions}
NEEDED = ["--model-path", "a", "--train-data", "b", "--output-path", "c"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    verb = path.parent.name
    assert parse(OPTIONS[verb], ["--config", str(path), *NEEDED], verb)


def test_there_are_recipes():
    assert CONFIGS
