"""Folders of shards that verbs make: their content, and a verb that is killed at random until it has made enough."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from faulty import MOMENTS
from fork_server import ForkServer
from omni_r1.data.shards import TokenDataset
from omni_r1.errors import InputError
from omni_r1.vocabulary import Vocabulary

UNLIKE = {"run.json", "codes.sqlite"}  # when, and in which order


def content(folder: Path) -> dict[str, bytes]:
    """Every file that two runs have in common, by its name."""
    names = {path for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in names if path.name not in UNLIKE}


def killed_at_random(
    server: ForkServer,
    words: Sequence[str],
    whole: Path,
    vocabulary: Vocabulary,
    check: Callable[[TokenDataset, Path], None],
    *,
    kills: int,
    by_operation: float,
    operations: int,
    delay: float,
) -> None:
    """Run the verb, of which `words` lack the folder, again and again beside `whole`, and kill it `kills` times.

    A share `by_operation` of them at one of its first `operations` on files, the others within `delay` seconds. What it
    finishes has the files of `whole` and stands the `check`; what it does not finish is no folder to train on.
    """
    folder, said = whole.parent / "killed", whole.parent / "said"
    rng, killed, finished, refused = random.Random(0), 0, 0, 0
    while killed < kills or not finished:
        moment: dict[str, Any]
        if rng.random() < by_operation:
            moment = {"kill": (rng.randint(1, operations), rng.choice(MOMENTS), None)}
        else:
            moment = {"delay": rng.uniform(0, delay)}
        how = {"folder": folder, **moment} if killed < kills else {}
        code = server.attempt([*words, str(folder)], said, **how)
        assert code in (-9, 0), said.read_text()
        killed += code == -9
        if code == 0:
            assert content(folder) == content(whole)
            check(TokenDataset(folder, vocabulary), folder)
            shutil.rmtree(folder)
            finished += 1
        elif not (folder / "manifest.json").exists():
            refused += 1
            with pytest.raises(InputError, match="no manifest.json"):
                TokenDataset(folder, vocabulary)
    assert killed >= kills and finished and refused > kills // 2
