"""How fast the backends are, side by side: `make bench`, or `python benchmarks/generate.py --help`.

One run, the same random weights and prompts, each backend in a process of its own:

- plain: stock `generate`, one prompt at a time, the grammar as a logits processor, as the original works
- transformers, vllm: this project's backends; compiled: the first with a compiled step, for GPUs

Most tokens of an answer are codes, so in most cases each prompt begins an image and the answer is its codes.
Weights are random: the answers mean nothing, and take as long as any.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common import MIDDLE, SEVEN, made_with
from tables import kept, markdown, put_section

from omni_r1.data.miniature import blank
from omni_r1.option_parser import option, parse
from omni_r1.options import Dtype
from omni_r1.run_record import describe_run

SHAPES = {"93m": MIDDLE, "7b": SEVEN}
PIXELS = {"93m": 256, "7b": 512}  # images of 256 and of 1024 codes
WORKER = Path(__file__).with_name("generate_worker.py")
LONGEST = 4480  # tokens of prompt and response, what vLLM keeps room for
TEXT = 40  # tokens of text that each prompt begins with


@dataclass
class BenchmarkOptions:
    """Time the backends on random weights."""

    shape: Literal["93m", "7b"] = option("93m", help="shape of the language model")
    device: str = option("cpu", help="torch device")
    dtype: Dtype = option("float32", help="precision of the weights")
    threads: int = option(1, help="CPU threads; with one, CPU seconds are work and not waiting")
    backends: str = option("plain,transformers,vllm", help="what to time")
    cases: str | None = option(None, help="names of cases, with commas between; none is all")
    prompts: str | None = option(None, help="numbers of prompts, likewise")
    json_path: str = option("out/benchmarks/generate.json", help="file for the figures")
    page: str | None = option(None, help="page whose table is to be written anew")


@dataclass(frozen=True)
class Case:
    """`prompts` of text and about `context` tokens of whole images; `samples` answers to each, an image or else text.

    `ragged`: of n prompts, the i-th has all but i / n of its image drawn already. `plain`: how many of the prompts the
    plain loop answers, which takes as long for each of many as for one.
    """

    name: str
    prompts: int
    plain: int
    context: int = 0
    samples: int = 1
    text: bool = False
    ragged: bool = False


CASES = (
    Case("an image", 8, 8),
    Case("an image", 1, 1),
    Case("an image", 16, 0),
    Case("an image", 32, 0),
    Case("ragged images", 16, 0, ragged=True),
    Case("text", 4, 1, text=True),
    Case("behind 1,000 tokens", 4, 2, context=1000),
    Case("behind 3,000 tokens", 4, 1, context=3000),
    Case("8 samples", 1, 1, context=1000, samples=8),
)


def prompts_of(case: Case, vocabulary: Any) -> list[list[int]]:
    """Token ids of the case's prompts, none of which begins as another."""
    rng, length = random.Random(f"{case}"), vocabulary.image_length
    codes, letters = vocabulary.codes.tolist(), vocabulary.encode_text("abcdefghijklmnopqrstuvwxyz")
    out = []
    for row in range(1, case.prompts + 1):
        ids = [vocabulary.bos, *rng.choices(letters, k=TEXT)]
        for _ in range(round(case.context / (length + 2))):
            ids += [vocabulary.boi, *rng.choices(codes, k=length), vocabulary.eoi]
        drawn = length - length * row // case.prompts if case.ragged else 0
        out.append(ids if case.text else ids + [vocabulary.boi, *rng.choices(codes, k=drawn)])
    return out


def sampling(case: Case, vocabulary: Any) -> dict[str, Any]:
    """Options under which every row draws its image to the end, or writes as many tokens of text."""
    if case.text:
        return {"mode": "text-only", "max_new_tokens": vocabulary.image_length + 1}
    images = round(case.context / (vocabulary.image_length + 2)) + 1
    return {"max_length": 1 + TEXT + (vocabulary.image_length + 2) * images, "do_sample": case.samples > 1}


def chosen_cases(options: BenchmarkOptions) -> list[Case]:
    names = {name.strip() for name in options.cases.split(",")} if options.cases else None
    numbers = {int(number) for number in options.prompts.split(",")} if options.prompts else None
    chosen = [case for case in CASES if names is None or case.name in names]
    chosen = [case for case in chosen if numbers is None or case.prompts in numbers]
    if not chosen:
        raise SystemExit("no case of these names and numbers of prompts")
    if options.device != "cpu":  # where the plain loop takes as long for each prompt: one of each name is enough
        first = {case.name: case for case in reversed(chosen) if case.plain}
        chosen = [replace(case, plain=int(first.get(case.name) == case)) for case in chosen]
    return chosen


def time_backends(options: BenchmarkOptions) -> Iterator[dict[str, Any]]:
    """The figures of every case and backend."""
    threads = str(options.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_LOGGING_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory() as folder:
        heads = SHAPES[options.shape]["num_attention_heads"]
        shape = SHAPES[options.shape] | {"num_key_value_heads": heads, "max_position_embeddings": LONGEST}
        vq = blank.VQ | {"num_embeddings": 8192, "embed_dim": 256, "latent_channels": 256}
        vq |= {"resolution": PIXELS[options.shape], "channel_multiplier": [1, 1, 1, 1, 1]}
        blank.write(Path(folder), blank.world_text(400), language_model=shape | {"vocab_size": 65536}, vq=vq)
        if options.shape == "93m":
            blank.create(folder).save(folder)
        for backend in options.backends.split(","):
            command = [sys.executable, str(WORKER), backend, folder, json.dumps(asdict(options))]
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("{"):
                        figures = json.loads(line)
                        print(
                            f"{backend:14}{figures['case']:18}{figures['tokens_per_second']:9.1f} tokens/s", flush=True
                        )
                        yield figures
            if process.returncode:
                raise SystemExit(f"{backend} failed with exit code {process.returncode}")


def table(figures: list[dict[str, Any]]) -> str:
    """The figures as a table, each beside the plain loop's in the same case."""
    base: dict[str, float] = {}
    for one in figures:
        if one["backend"] == "plain":
            base.setdefault(one["case"], one["tokens_per_cpu_second"])  # the first has the most prompts
    if "an image" in base:
        base["ragged images"] = base["an image"]
    order = list(dict.fromkeys(case.name for case in CASES))
    rows = []
    for one in sorted(figures, key=lambda one: (order.index(one["case"]), one["prompts"])):
        plain = base.get(one["case"])
        rows.append(
            {
                "case": one["case"],
                "prompts": one["prompts"],
                "backend": one["backend"],
                "prompt tokens": one["prompt_tokens"],
                "new tokens": one["new_tokens"],
                "tokens/s": f"{one['tokens_per_second']:.1f}",
                "tokens/CPU s": f"{one['tokens_per_cpu_second']:.1f}",
                "of plain": f"{one['tokens_per_cpu_second'] / plain:.1f} x" if plain else "",
                "s/image": f"{one['seconds_per_image']:.2f}" if "seconds_per_image" in one else "",
                "peak GiB": f"{one['peak_memory_bytes'] / 2**30:.2f}",
                "bandwidth": f"{one['bandwidth_share']:.0%}" if "bandwidth_share" in one else "",
            }
        )
    return markdown(rows)


def ragged_cost(figures: list[dict[str, Any]]) -> str:
    """What a token of ragged rows costs, in rows fed and in CPU seconds beside as many even rows."""
    lines = []
    for backend in ("transformers", "vllm"):
        rate = {one["case"]: one for one in figures if one["backend"] == backend and one["prompts"] == 16}
        if {"an image", "ragged images"} <= set(rate):
            even, ragged = rate["an image"], rate["ragged images"]
            cost = even["tokens_per_cpu_second"] / ragged["tokens_per_cpu_second"]
            fed = f"{ragged['rows_fed_per_token']:.2f} rows fed a token, " if "rows_fed_per_token" in ragged else ""
            lines.append(f"- {backend}, 16 ragged rows: {fed}{cost:.2f} x the CPU seconds a token of 16 even rows\n")
    return "".join(lines)


def main() -> None:
    asked = parse(BenchmarkOptions, sys.argv[1:], "bench")
    figures = kept(time_backends(asked), asked.json_path)
    run = describe_run(asked, seed=0)
    settings = f"{asked.shape}, {asked.dtype}, {asked.device}, {asked.threads} thread{'s' * (asked.threads > 1)}"
    lines = [
        f"{settings}; {processor()}; {run['machine']}; {made_with(run)}\n",
        table(figures),
        ragged_cost(figures),
    ]
    content = "\n".join(line for line in lines if line)
    print(content)
    if asked.page:
        put_section(Path(asked.page), f"generate {asked.shape}", content)


def processor() -> str:
    """Linux's name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
