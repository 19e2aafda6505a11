"""A trained checkpoint to the Hub: the right to write there is checked before training, the files go after it."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from omni_r1.errors import InputError, OmniError
from omni_r1.model import checkpoint
from omni_r1.pesft.band import BAND
from omni_r1.pesft.card import CARD
from omni_r1.pesft.saving import PERCEPTION

# What talking to the Hub raises: refused or not reached; offline, no token; a name that is none; its upload library.
REFUSED = (HTTPError, OSError, ValueError, RuntimeError)
WEIGHTS = ["model.safetensors", "model-*-of-*.safetensors", checkpoint.INDEX]
FILES = [*WEIGHTS, "config.json", *checkpoint.COMPANIONS, PERCEPTION, BAND, CARD]  # not run.json, which has paths
ADAPTER = "adapter/*"


def claim(name: str, private: bool) -> None:
    """Make the repository, where there is none. Raises InputError where this user may not write to it."""
    api = HfApi()
    try:
        api.whoami()
        api.create_repo(name, private=private or None, exist_ok=True)
        api.auth_check(name, write=True)  # an old repository is no proof that the token may write
        hidden = api.repo_info(name).private
    except REFUSED as error:
        raise InputError(f"{name} cannot be written to: {first_line(error)}", field="push_to_hub") from error
    if private and not hidden:
        raise InputError(f"{name} is there already, and public", field="hub_private")


def push(output: Path, name: str, verb: str, log: str, adapter: bool) -> None:
    """Upload the checkpoint, its card and log as one commit, in place of an earlier one's weights.

    Raises OmniError, saying how to push later, where it does not arrive: what is on the disk is whole.
    """
    try:
        HfApi().upload_folder(
            repo_id=name,
            folder_path=output,
            commit_message=f"Upload by omni-r1 {verb}",
            allow_patterns=[*FILES, log, *([ADAPTER] if adapter else [])],
            ignore_patterns=["*/.*"],  # what a killed run left half written
            delete_patterns=[*WEIGHTS, ADAPTER],
        )
    except REFUSED as error:
        later = f"hf upload {name} {output} . --exclude 'steps/*' --exclude 'samples/*'"
        raise OmniError(
            f"{name}: not pushed: {first_line(error)}; the checkpoint is whole in {output}, to push it later: {later}"
        ) from error


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
