"""One case of `memory.py` in a process of its own: the last line of stdout has its figures, in bytes.

All are resident memory beyond what the process had before it read the checkpoint, Python and libraries loaded.
"""

import ctypes
import json
import random
import sys
import time
from importlib import import_module
from typing import Any

import torch
from common import forget_peak, resident

from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.model import load


def settle(model: torch.nn.Module) -> None:
    """Leave the weights alone: what was read unchanged is still the mapped file, what loading freed is still held."""
    for weight in model.parameters():
        if not hasattr(weight, "quant_state") and weight.dtype.is_floating_point:
            weight.data = weight.data.clone()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    folder, case = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(case["threads"])
    if case["quantize"]:
        import_module("bitsandbytes")  # a library's own memory is not the weights'
    load(folder, language_model=False)  # brings the last libraries in, and goes again
    base = resident("VmRSS")
    forget_peak()
    omni = load(folder, dtype=case["dtype"], quantize=case["quantize"])
    figures: dict[str, Any] = {"loading": resident("VmHWM") - base}
    settle(omni.model)
    figures["loaded"] = resident("VmRSS") - base
    rng, words = random.Random(0), omni.vocabulary
    codes, length = words.codes.tolist(), words.image_length
    image = [words.boi, *rng.choices(codes, k=length), words.eoi]
    wanted = case["tokens"] - case["new"]
    prompts = [[words.bos, *image * (wanted // len(image) + 1)][:wanted] for _ in range(case["rows"])]
    forget_peak()
    started = time.monotonic()
    backend = TransformersBackend(omni, case["rows"])
    rows = backend.generate(prompts, SamplingOptions(mode="unrestricted", max_new_tokens=case["new"]))
    figures |= {"peak": resident("VmHWM") - base, "seconds": time.monotonic() - started}
    assert all(row.error is None for row in rows), rows[0].error
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
