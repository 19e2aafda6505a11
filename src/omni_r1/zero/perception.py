"""What the calibrated perception score of a drawing is measured by: the checkpoint's band, or the questions' pictures.

A base model has no band. The questions' pictures are all there is to learn one from, since nobody has drawn a step yet.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from omni_r1.data.codes import Codes, PictureCodes
from omni_r1.data.readers import read
from omni_r1.data.readers.source import Source
from omni_r1.data.sample import Picture, Sample
from omni_r1.errors import InputError
from omni_r1.model import Omni
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import Band
from omni_r1.pesft.band import BAND
from omni_r1.zero.options import BootstrapOptions

MOST = 2048  # pictures a band is learned from


class Calibration(NamedTuple):
    """A band, and the distances between codes that its energies are made of."""

    band: Band
    distances: Tensor


def calibrate(
    options: BootstrapOptions, omni: Omni, folder: Path, source: Source, pictures: PictureCodes
) -> Calibration:
    """Raises InputError where there is no band, or no picture to learn one from."""
    judge = load_judge(omni, folder)
    if options.band == "checkpoint":
        if judge.band is None:
            raise InputError(f"needs a {BAND}, or band questions", file=folder, field="min_perception")
        judge.band.check(judge.codebook)
        return Calibration(judge.band, judge.distances)
    codes = torch.tensor(question_pictures(options, omni, source, pictures))
    return Calibration(Band.learn(codes, judge.codebook), judge.distances)


def question_pictures(options: BootstrapOptions, omni: Omni, source: Source, pictures: PictureCodes) -> list[Codes]:
    """Codes of the first pictures of the questions, in their order; those that cannot be used are left out."""
    found: list[Codes] = []
    for _, item in read(source, options.format, omni.vocabulary, limit=options.limit, text_only=True):
        parts = [part for part in item.question if isinstance(part, Picture)] if isinstance(item, Sample) else []
        keys = [pictures.ask(part.data) for part in parts]
        while pictures.busy:
            pictures.encode()
        found += [codes for key in keys if not isinstance(codes := pictures.known[key], str)]
        for key in keys:
            pictures.forget(key)
        if len(found) >= MOST:
            break
    return found[:MOST]
