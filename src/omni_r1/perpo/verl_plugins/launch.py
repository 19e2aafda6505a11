"""Train: `python -m omni_r1.perpo.verl_plugins.launch RECIPE.yaml [key=value ...]`, verl's own overrides behind it.

The recipe is composed over verl's defaults, checked, and handed to `verl.trainer.main_ppo`; with `--check` it is only
checked.
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from omni_r1.errors import InputError, OmniError
from omni_r1.perpo.verl_plugins.check import check_config

USAGE = "usage: python -m omni_r1.perpo.verl_plugins.launch [--check] RECIPE.yaml [key=value ...]"


def composed(recipe: Path, overrides: list[str]) -> DictConfig:
    """A recipe over verl's defaults, with overrides in Hydra's form. Raises InputError for what does not compose."""
    if not recipe.is_file():
        raise InputError("no such recipe", file=recipe)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(recipe.resolve().parent), version_base=None):
            return compose(recipe.stem, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split()), file=recipe) from error


def main(words: list[str]) -> int:
    only_check = "--check" in words
    words = [word for word in words if word != "--check"]
    if not words or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        config = composed(Path(words[0]), words[1:])
        check_config(config)
    except OmniError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if only_check:
        print("the config is as it should be")
        return 0
    from verl.trainer.main_ppo import main as train

    train(config)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
