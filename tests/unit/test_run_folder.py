"""What the record of a broken answer says (mode unrestricted)."""

import numpy as np
import pytest

from omni_r1.generate.backend import Completion
from omni_r1.generate.questions import Question
from omni_r1.generate.run_folder import record_of
from omni_r1.model import Omni, load
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return load(write_checkpoint(tmp_path_factory.mktemp("broken")))


@pytest.mark.parametrize("strict", [True, False])
def test_broken_images(omni, strict):
    """One code short, one too many, none at all and cut off by the end; the whole one between them is always drawn."""
    words, kept = omni.vocabulary, {}
    length, codes = words.image_length, words.codes.tolist()[:20]
    prompt = [words.bos, *words.encode_text("draw")]
    ids = list(prompt)
    for number in (length - 1, length, length + 1, 0):
        ids += [*words.encode_text("so"), words.boi, *codes[:number], words.eoi]
    ids += [words.boi, *codes[:2]]

    def store(picture, name):
        kept[name] = picture
        return f"{name}.png"

    completion = Completion(ids, len(prompt), stop="length")
    record, drawn = record_of(Question("a", "draw", row=1), 0, completion, [], omni, store, 0, strict)
    assert len(record["broken"]) == 4
    assert record["images_whole"] == [False, True, False, False, False]
    if strict:
        assert record["text"] == "so<invalid_image_1>so<image_2>so<invalid_image_3>so<invalid_image_4><invalid_image_5>"
        assert record["images"] == ["image_2.png"] and list(kept) == ["image_2"]
    else:
        assert record["text"] == "".join(f"so<image_{number}>" for number in range(1, 5)) + "<image_5>"
        assert record["images"] == [f"image_{number}.png" for number in range(1, 6)]
    [whole] = omni.decode(words.codes[None, :length])
    off = np.abs(np.asarray(kept["image_2"], int) - np.asarray(whole, int))
    assert off.max() <= 1 and len(drawn) == len(kept)  # pixels are cut to whole levels, decoded together or alone
    assert record["status"] == "ok" and record["valid"] is False
