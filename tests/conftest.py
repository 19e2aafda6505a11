from pathlib import Path

import pytest
from hypothesis import settings

from omni_r1 import shipped
from omni_r1.vocabulary import Vocabulary
from prompts import Case
from tiny import write_checkpoint, write_files

# What a case takes depends on the machine and what else it does; pytest-timeout bounds each test.
settings.register_profile("omni", deadline=None)
settings.load_profile("omni")

TINY = Path(__file__).parents[2] / "shared" / "reference" / "checkpoints" / "tiny"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A checkpoint that the original implementation wrote; it lies beside the checkout, not in it."""
    if not TINY.is_dir():
        pytest.skip(f"the reference checkpoint is not at {TINY}")
    return TINY


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """Of the checkpoint in `tiny.py`: 64 codes, 16 per image, no id as in the published models."""
    return Vocabulary.from_checkpoint(write_files(tmp_path_factory.mktemp("vocabulary")))


@pytest.fixture(scope="session", params=["random", "tiny", "miniature"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each checkpoint that laws 3, 4 and 5 are tried on, one after the other."""
    if request.param == "random":
        return Case.of(write_checkpoint(tmp_path_factory.mktemp("random")))
    return Case.of(request.getfixturevalue("tiny") if request.param == "tiny" else shipped.MODEL)
