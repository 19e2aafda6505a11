"""The original's training rows: Zebra-CoT's keys, and under each picture's key its token ids.

Whoever made such a file may have put the ids of BOI and EOI around them, or not. Any key may be a picture's.
"""

from collections.abc import Mapping
from typing import Any

import torch

from omni_r1.data.readers.zebra_cot import sample
from omni_r1.data.sample import Place, RowError, Sample
from omni_r1.trajectory import Image
from omni_r1.vocabulary import ParseError, Vocabulary


def read_row(row: Mapping[str, Any], name: str, place: Place, vocabulary: Vocabulary) -> Sample:
    """A row as a Sample. Raises RowError: also where a picture is not exactly S ids of image codes."""
    return sample(row, name, place, lambda cell, key: codes_of(cell, key, vocabulary))


def codes_of(cell: Any, key: str, vocabulary: Vocabulary) -> Image:
    """Token ids of a picture, with BOI and EOI or without, as its codes."""
    if not isinstance(cell, list) or not all(isinstance(each, int) and not isinstance(each, bool) for each in cell):
        raise RowError("malformed", "must be a list of token ids", key)
    ids = cell[1:] if cell[:1] == [vocabulary.boi] else cell
    ids = ids[:-1] if ids[-1:] == [vocabulary.eoi] else ids
    if len(ids) != vocabulary.image_length:
        raise RowError("image-length", f"has {len(ids)} codes, not {vocabulary.image_length}", key)
    if not all(0 <= each < vocabulary.size for each in ids):
        raise RowError("no-image-code", f"has a token id outside 0..{vocabulary.size - 1}", key)
    try:
        return Image(tuple(vocabulary.tokens_to_codes(torch.tensor([ids]))[0].tolist()))
    except ParseError as error:
        raise RowError("no-image-code", str(error), key) from error
