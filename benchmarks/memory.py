"""What a model takes in memory, by precision, length and rows: `python benchmarks/memory.py --page docs/memory.md`.

Two tables: for the 7B computed from its shapes; for a middle-sized model with random weights (93 million parameters)
computed the same way and, beside that, measured on the CPU, each case in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from common import MIDDLE, SEVEN, made_with
from tables import markdown, put_section

from omni_r1.data.miniature import blank
from omni_r1.files import write_atomic
from omni_r1.model import Chameleon, checkpoint, create
from omni_r1.model.placement import layer_bytes, rest_bytes
from omni_r1.option_parser import option, parse
from omni_r1.run_record import describe_run

WORKER = Path(__file__).with_name("memory_worker.py")
GIB, MIB = 2**30, 2**20
SPARE = 1.25  # a cache layer grows by a quarter at a time, so it may be that much larger than what is in it

EYES = {"num_embeddings": 8192, "embed_dim": 256, "latent_channels": 256, "resolution": 512}
SEVEN_EYES = EYES | {"channel_multiplier": [1, 1, 2, 2, 4], "base_channels": 128, "num_res_blocks": 2}
SEVEN_EYES |= {"attn_type": "vanilla"}
MIDDLE_EYES = EYES | {"channel_multiplier": [1, 1, 2, 2, 4]}

# Precision, and bits of the layers' weights. The head is never quantized and the cache has the precision's.
KINDS: dict[str, tuple[str, Any]] = {
    "fp32": ("float32", None),
    "bf16, fp16": ("bfloat16", None),
    "8 bits": ("float16", "8bit"),
    "4 bits": ("float16", "4bit"),
}
LENGTHS, ROWS = (1000, 4000, 12000), (1, 8, 16)


@dataclass(frozen=True)
class Case:
    """What one process does: answer `rows` prompts of `tokens` less `new` tokens with `new` more."""

    dtype: str
    quantize: str | None
    tokens: int
    rows: int
    new: int = 8


CASES = [
    *(Case("float32", None, tokens, 1) for tokens in LENGTHS),
    Case("float32", None, 1000, 4),
    *(Case("bfloat16", bits, tokens, 1) for bits in (None, "8bit", "4bit") for tokens in LENGTHS[:2]),
]


@dataclass
class MemoryOptions:
    """Compute and measure memory."""

    threads: int = option(2, help="CPU threads of each measuring process")
    measure: bool = option(True, help="measure the middle-sized model, beside computing")
    json_path: str = option("out/benchmarks/memory.json", help="file for the figures")
    page: str | None = option(None, help="page whose tables are to be written anew")


def write_files(folder: Path, shape: dict[str, int], eyes: dict[str, Any]) -> Path:
    """config.json, tokenizer and processor files of a model with the published vocabulary's size."""
    shape = shape | {"num_key_value_heads": shape["num_attention_heads"], "max_position_embeddings": LENGTHS[-1]}
    blank.write(folder, blank.world_text(400), language_model=shape | {"vocab_size": 65536}, vq=blank.VQ | eyes)
    return folder


def weight_bytes(frame: Chameleon, dtype: str, quantize: Any) -> int:
    """Of all weights, the fp32 VQ module's too."""
    wide = checkpoint.torch_dtype(dtype)
    return frame.config.num_hidden_layers * layer_bytes(frame, wide, quantize) + rest_bytes(frame, wide)


def cache_bytes(frame: Chameleon, dtype: str, tokens: int = 1) -> int:
    """Of the keys and values of one row."""
    wide, config = checkpoint.torch_dtype(dtype), frame.config
    heads = config.num_key_value_heads or config.num_attention_heads
    width = heads * config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * width * wide.itemsize * tokens


def computed(frame: Chameleon) -> list[dict[str, Any]]:
    """A row for each kind and length: weights, cache, and both for some numbers of rows, in GiB."""
    rows = []
    for kind, (dtype, quantize) in KINDS.items():
        weights, cache = weight_bytes(frame, dtype, quantize), cache_bytes(frame, dtype, 1000)
        for tokens in LENGTHS:
            totals = {count: weights + count * cache_bytes(frame, dtype, tokens) * SPARE for count in ROWS}
            rows.append(
                {
                    "weights in": kind,
                    "weights GiB": f"{weights / GIB:.1f}",
                    "cache GiB for 1,000 tokens of a row": f"{cache / GIB:.2f}",
                    "tokens": f"{tokens:,}",
                    **{f"{count} row{'s' * (count > 1)}": f"{total / GIB:.1f}" for count, total in totals.items()},
                }
            )
    return rows


def measured(frame: Chameleon, folder: Path, threads: int) -> Iterator[dict[str, Any]]:
    """The figures of every case in bytes, computed and measured."""
    for case in CASES:
        command = [sys.executable, str(WORKER), str(folder), json.dumps(vars(case) | {"threads": threads})]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{case} failed with exit code {done.returncode}")
        figures = vars(case) | json.loads(done.stdout.splitlines()[-1])
        figures["weights"] = weight_bytes(frame, case.dtype, case.quantize)
        figures["cache"] = int(case.rows * cache_bytes(frame, case.dtype, case.tokens) * SPARE)
        print(figures, flush=True)
        yield figures


def beside(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Computed and measured in MiB; what of the peak was not computed is what a step works with."""
    return [
        {
            "dtype": one["dtype"],
            "bits": (one["quantize"] or "").removesuffix("bit"),
            "tokens": f"{one['tokens']:,}",
            "rows": one["rows"],
            "weights, computed": round(one["weights"] / MIB),
            "weights, measured": round(one["loaded"] / MIB),
            "peak while loading": round(one["loading"] / MIB),
            "with cache, computed": round((one["weights"] + one["cache"]) / MIB),
            "peak, measured": round(one["peak"] / MIB),
            "beyond": round((one["peak"] - one["weights"] - one["cache"]) / MIB),
        }
        for one in figures
    ]


def main() -> None:
    asked = parse(MemoryOptions, sys.argv[1:], "memory")
    run = describe_run(asked, seed=0)
    versions = made_with(run)
    if asked.measure:
        versions += f", bitsandbytes {version('bitsandbytes')}"
    with tempfile.TemporaryDirectory() as work:
        seven = write_files(Path(work, "seven"), SEVEN, SEVEN_EYES)
        middle = write_files(Path(work, "middle"), MIDDLE, MIDDLE_EYES)
        frames = [checkpoint.skeleton(checkpoint.read_config(place), place) for place in (seven, middle)]
        sections = {"memory 7b": f"**Computed** from the shapes; {versions}.\n\n{markdown(computed(frames[0]))}"}
        if asked.measure:
            create(middle).save(middle, dtype="bfloat16")
            figures = list(measured(frames[1], middle, asked.threads))
            where = f"{run['machine']}, {asked.threads} threads; {versions}"
            sections["memory 93m"] = f"**Measured**, beside what is computed; {where}.\n\n{markdown(beside(figures))}"
            Path(asked.json_path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(asked.json_path, json.dumps({"run": run, "figures": figures}, indent=1) + "\n")
    for name, content in sections.items():
        print(content)
        if asked.page:
            put_section(Path(asked.page), name, content)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
