"""Store a trained miniature where the package looks for it: `python -m omni_r1.data.miniature.ship WORK`.

The language model is stored in half precision (its VQ stays fp32), which halves what users download; the bench is
written anew. `demo` then measures what is stored.
"""

import argparse
import shutil
from pathlib import Path

from omni_r1 import shipped
from omni_r1.data.miniature.corpus import write_bench
from omni_r1.model import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="the folder runs/miniature.sh trained in")
    parser.add_argument("--count", type=int, default=400, help="questions of the bench")
    parser.add_argument("--seed", type=int, default=3, help="seed of the bench")
    args = parser.parse_args()
    for source, target in ((args.work / "model", shipped.MODEL), (args.work / "control", shipped.CONTROL)):
        load(source).save(target, dtype="float16")
        shutil.copyfile(source / "log.jsonl", target / "log.jsonl")
    for name in ("perception.safetensors", "perception_band.json"):
        shutil.copyfile(args.work / "model" / name, shipped.MODEL / name)
    for name in ("blank", "base", "first", "first-control"):  # the VQ is trained in `blank`
        shutil.copyfile(args.work / name / "log.jsonl", shipped.ASSETS / f"{name}.log.jsonl")
    write_bench(shipped.BENCH, args.count, args.seed)


if __name__ == "__main__":
    main()
