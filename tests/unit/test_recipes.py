"""Every recipe is one that its verb takes, alone or over another, and those of one pipeline fit each other."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from omni_r1.option_parser import parse
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.zero.options import BootstrapOptions

CONFIGS = Path(__file__).parents[2] / "configs"
VERBS = {"pesft": PesftOptions, "perpo": PerpoOptions, "bootstrap": BootstrapOptions}
OVER = {f"omni-r1-zero-{name}": "omni-r1" for name in "tsm"}  # these say what differs alone
STEPS = {"omni-r1-zero-t": 10, "omni-r1-zero-s": 20, "omni-r1-zero-m": 30}  # paper, section 5


def read(verb: str, name: str):
    """The options of a recipe, and of the one it is over."""
    kind = VERBS[verb]
    words = [
        word for each in (OVER.get(name, name), name) for word in ("--config", str(CONFIGS / verb / f"{each}.yaml"))
    ]
    needed = [
        item.name for item in fields(kind) if item.default is MISSING and item.name not in ("max_steps", "format")
    ]
    needed += ["train_data"] if verb == "pesft" else []
    return parse(kind, words + [word for each in needed for word in (f"--{each}", "x")], verb)


@pytest.mark.parametrize(("verb", "name"), [(verb, file.stem) for verb in VERBS for file in (CONFIGS / verb).glob("*")])
def test_recipes_are_read(verb, name):
    options = read(verb, name)
    if verb == "perpo" and name in STEPS:
        assert options == read("perpo", "omni-r1").__class__(
            **(vars(read("perpo", "omni-r1")) | {"max_steps": STEPS[name]})
        )


def test_what_zero_draws_is_what_its_training_takes():
    drawn, learned, reinforced = (
        read("bootstrap", "omni-r1-zero"),
        read("pesft", "omni-r1-zero"),
        read("perpo", "omni-r1"),
    )
    assert drawn.max_length <= min(learned.max_length, reinforced.max_length) and drawn.max_rows == 791
    assert drawn.template == learned.mode
    assert (1 + drawn.max_steps) * 1026 < drawn.max_length and drawn.max_steps * 1026 < reinforced.max_new_tokens
