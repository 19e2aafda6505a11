"""How fast PeSFT is and what it takes in memory, beside the original's way: `python benchmarks/pesft.py --help`.

One run, the same random weights and rows, each trainer in a process of its own (`pesft_worker.py`):

- original: a padded batch, the states of all layers, whole fp32 logits, the VQ module in the optimiser, written plainly
- omni-r1: `omni-r1 pesft` as it comes, packed; and in the last rows with its options that need less still

With `--shape 7b`, on a GPU, omni-r1 alone: of the original's way neither weights nor logits would fit there.

A row is a prompt of text and an answer of text and images, of which half the tokens are.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from common import MIDDLE, SEVEN, made_with, random_omni
from memory import MIDDLE_EYES, SEVEN_EYES, write_files
from tables import kept, markdown, put_section

from omni_r1.data.miniature.blank import world_text
from omni_r1.model import create
from omni_r1.option_parser import option, parse
from omni_r1.run_record import describe_run
from omni_r1.trajectory import Image, Text, plain
from omni_r1.vocabulary import Vocabulary

WORKER = Path(__file__).with_name("pesft_worker.py")
IMAGE = 1026  # tokens, with its begin and end
MIB = 2**20


@dataclass
class BenchmarkOptions:
    """Time a training step of a random model, and see what it takes in memory."""

    shape: Literal["93m", "7b"] = option("93m", help="shape of the language model; 7b wants a GPU of 80 GB")
    threads: int = option(2, help="CPU threads of each measuring process")
    steps: int = option(4, help="steps of each case; the first is not counted")
    json_path: str = option("out/benchmarks/pesft.json", help="file for the figures as they come")
    page: str | None = option(None, help="page whose table is to be written anew")


@dataclass(frozen=True)
class Case:
    sequences: int
    length: int  # tokens of a sequence, about
    options: tuple[str, ...] = ()  # of omni-r1 pesft; with any, the original's way is not run


CASES = [
    Case(2, 2000),
    Case(1, 2048),
    Case(1, 4096),
    Case(1, 8192),
    Case(2, 2000, ("--ce", "grammar")),
    Case(2, 2000, ("--gradient-checkpointing", "full")),
]
BF16 = ("--dtype", "bf16", "--bf16")
LORA = (*BF16, "--lora-rank", "64", "--lora-alpha", "64")
SEVEN_CASES = [
    Case(1, 4096, (*LORA, "--gradient-checkpointing", "full")),
    Case(1, 4096, LORA),
    Case(1, 4096, (*BF16, "--gradient-checkpointing", "full")),
]


def write_rows(file: Path, vocabulary: Vocabulary, case: Case) -> None:
    rng, words = random.Random(0), " ".join(world_text(4000)).split()
    lines = []
    for number in range(case.sequences):
        images = max(1, case.length // (2 * IMAGE))
        wanted = case.length - images * IMAGE + rng.randint(-50, 50) * (case.sequences > 1)
        taken = len(words)
        while len(vocabulary.encode_text(" ".join(words[:taken]))) > wanted:
            taken = taken * 9 // 10
        codes = [rng.choices(range(len(vocabulary.codes)), k=IMAGE - 2) for _ in range(images)]
        steps = [part for image in codes for part in (Text("THOUGHT: look. "), Image(tuple(image)))]
        lines.append(json.dumps(plain([Text(" ".join(words[:taken]))], steps, str(number)).to_json()))
    file.write_text("\n".join(lines) + "\n")


def figures(folder: Path, asked: BenchmarkOptions) -> Iterator[dict[str, Any]]:
    vocabulary = Vocabulary.from_checkpoint(folder)
    for case in CASES if asked.shape == "93m" else SEVEN_CASES:
        write_rows(folder / "rows.jsonl", vocabulary, case)
        for trainer in ("omni-r1",) if case.options else ("original", "omni-r1"):
            wanted = {"trainer": trainer, **asdict(case), "threads": asked.threads, "steps": asked.steps}
            with tempfile.TemporaryDirectory() as output:
                command = [sys.executable, str(WORKER), str(folder), output, json.dumps(wanted)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"{trainer}, {case} failed with exit code {done.returncode}")
            found = json.loads(done.stdout.splitlines()[-1])
            one = {
                "trainer": trainer,
                "options": " ".join(case.options),
                "sequences": case.sequences,
                "tokens": found["tokens"],
                "targets": found["targets"],
                "tokens_per_second": round(found["tokens"] / statistics.median(found["seconds"][1:]), 1),
                "peak_memory_bytes": found["peak"],
                "loss": found["losses"][0],
            }
            print(one, flush=True)
            yield one


def table(rows: list[dict[str, Any]]) -> str:
    """The two side by side, ours as a factor of the original's on the same rows."""
    plainly = {(one["sequences"], one["tokens"]): one for one in rows if one["trainer"] == "original"}
    lines = []
    for one in rows:
        line = {
            "trainer": f"{one['trainer']} {one['options']}".strip(),
            "sequences": one["sequences"],
            "tokens": f"{one['tokens']:,}",
            "targets": f"{one['targets']:,}",
            "tokens/s": f"{one['tokens_per_second']:.0f}",
        }
        faster, less = "", ""
        if (beside := plainly.get((one["sequences"], one["tokens"]), one)) is not one:
            faster = f"{one['tokens_per_second'] / beside['tokens_per_second']:.2f} x"
            less = f"{one['peak_memory_bytes'] / beside['peak_memory_bytes']:.0%}"
        line |= {"faster": faster, "peak MiB": f"{one['peak_memory_bytes'] / MIB:,.0f}", "of its memory": less}
        lines.append(line)
    return markdown(lines)


def main() -> None:
    asked = parse(BenchmarkOptions, sys.argv[1:], "pesft benchmark")
    run = describe_run(asked, seed=0)
    with tempfile.TemporaryDirectory() as work:
        if asked.shape == "93m":
            folder = write_files(Path(work), MIDDLE, MIDDLE_EYES)
            create(folder).save(folder)
        else:
            folder = write_files(Path(work), SEVEN, SEVEN_EYES)
            random_omni(folder, "cuda", "bf16").save(folder, dtype="bf16")
            torch.cuda.empty_cache()
        rows = kept(figures(folder, asked), asked.json_path)
    content = f"{run['machine']}, {asked.threads} threads; {made_with(run)}.\n\n{table(rows)}"
    print(content)
    if asked.page:
        put_section(Path(asked.page), f"pesft {asked.shape}", content)


if __name__ == "__main__":
    main()
