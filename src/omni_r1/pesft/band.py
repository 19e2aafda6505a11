"""The band of a training run's step images, which PeRPO's reward measures drawings by: `perception_band.json`.

PeSFT writes it beside its checkpoint; for a checkpoint of another origin, from a file of trajectories that draw:

    python -m omni_r1.pesft.band CHECKPOINT TRACES.jsonl FOLDER
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from omni_r1.errors import InputError, OmniError
from omni_r1.files import write_atomic
from omni_r1.grammar import response_images
from omni_r1.model import load
from omni_r1.perpo.reward import Band
from omni_r1.pesft.dataset import Rows, TrajectoryDataset
from omni_r1.pesft.losses import IGNORED
from omni_r1.vocabulary import Vocabulary

BAND = "perception_band.json"
MOST = 4096  # images, and rows, that are looked at


def target_images(rows: Rows, vocabulary: Vocabulary) -> Tensor:
    """(n, S) codes of the first whole images that the rows teach to draw."""
    found: list[list[int]] = []
    for index in range(min(len(rows), MOST)):
        row = rows[index]
        ids, prompt_length = row["input_ids"].tolist(), int((row["labels"] != IGNORED).int().argmax())
        starts = [start + 1 for start, whole in response_images(ids, prompt_length, vocabulary) if whole]
        found += [ids[start : start + vocabulary.image_length] for start in starts]
        if len(found) >= MOST:
            break
    tokens = torch.tensor(found[:MOST], dtype=torch.long).view(-1, vocabulary.image_length)
    return vocabulary.tokens_to_codes(tokens)


def write_band(folder: Path, images: Tensor, codebook: Tensor) -> None:
    """Learn the band of images as codes (n, S) of a codebook (K, D), and write it; of none nothing is written."""
    if len(images):
        write_atomic(folder / BAND, json.dumps(Band.learn(images, codebook).to_json()) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="folder or hub id; only its VQ module is read")
    parser.add_argument("traces", type=Path, help="JSONL of trajectories, as the miniature's corpus makes it")
    parser.add_argument("folder", type=Path, help="where the band is written: the checkpoint's own folder")
    args = parser.parse_args(words)
    try:
        make(args.checkpoint, args.traces, args.folder)
    except OmniError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def make(checkpoint: str, traces: Path, folder: Path) -> None:
    """Learn the band of the images of `traces` and write it into `folder`. Raises OmniError."""
    omni = load(checkpoint, language_model=False)
    images = target_images(TrajectoryDataset(traces, omni.vocabulary, 2**31), omni.vocabulary)
    if not len(images):
        raise InputError("no response has an image", file=traces)
    write_band(folder, images, omni.model.model.vqmodel.quantize.embedding.weight)
    print(f"{len(images)} images; see {folder / BAND}")


if __name__ == "__main__":
    sys.exit(main())
