"""The cases of each family, run through what a user calls: (name, function) each; the first is a clean run."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import omni_r1
from hostile import corpus, pictures, places, settings
from hostile.watched import Case, Watch
from omni_r1.bench import run as bench_run
from omni_r1.bench.suites import load_suite
from omni_r1.cli import main
from omni_r1.files import AppendLog, open_image
from omni_r1.generate import runner
from omni_r1.run_record import ANSWERS, RESULTS
from tiny import write_checkpoint

SHORT = ("--max-new-tokens", "2", "--mode", "text-only")


def prepared(folder: Path) -> Path:
    """A checkpoint, which all runs of this process share: what is hostile here is not the checkpoint."""
    checkpoint = write_checkpoint(folder / "checkpoint")
    for module in (runner, bench_run):
        module.load = functools.cache(module.load)  # type: ignore[attr-defined]
    return checkpoint


def answers(checkpoint: Path, source: Path, output: Path, *more: str) -> dict[str, Any]:
    """What `omni-r1 generate` makes of a file: exit code, and status and error of its rows."""
    words = ["--input", str(source), "--model-path", str(checkpoint), "--output-dir", str(output), *SHORT, *more]
    code = main(["generate", *words])
    return {"code": code, "rows": recorded(output / source.stem / ANSWERS)}


def recorded(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with AppendLog(file) as log:
        names = ("id", "row", "status", "error", "question_images")
        return [{name: row[name] for name in names} for row in log.rows]


def write_rows(path: Path, listed: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


def picture_cases(folder: Path, watch: Watch) -> Iterator[Case]:
    checkpoint = prepared(folder)
    omni = omni_r1.load(checkpoint)
    root = folder / "data"
    root.mkdir()
    (root / "good.png").write_bytes(pictures.saved(pictures.noise()))

    def seen(name: str) -> Callable[[], Any]:
        return lambda: omni.encode([open_image(name, root=root)]).shape

    yield "clean", seen("good.png")
    listed = [{"prompt": "a", "images": ["good.png"]}]
    for name in corpus.written("pictures", root):
        if not name.startswith("ok-largest"):
            listed.append({"id": name, "prompt": "What is <image>?", "images": [name]})
        yield name, seen(name)
    listed += listed[:1]
    for half in (0, 1):
        source = write_rows(root / f"rows-{half}.jsonl", [{"prompt": "a", "images": ["good.png"]}, *listed[half::2]])
        yield f"run-{half}", lambda source=source: answers(checkpoint, source, folder / "out")
    many = write_rows(root / "many.jsonl", [{"prompt": "a", "images": ["ok-largest-bits.png"]}] * 2)
    yield "run-of-large-ones", lambda: answers(checkpoint, many, folder / "out")


def row_cases(folder: Path, watch: Watch) -> Iterator[Case]:
    checkpoint = prepared(folder)
    root = folder / "data"
    root.mkdir()
    names = corpus.written("rows", root)
    clean = write_rows(folder / "data" / "clean.jsonl", [{"prompt": "a", "images": ["good.png"]}] * 3)
    yield "clean", lambda: answers(checkpoint, clean, folder / "out")
    for name in names:
        yield name, lambda name=name: answers(checkpoint, root / name, folder / "out")

        if name.startswith(("any-", "ok-", "whole-")):
            run = folder / "out" / name.removesuffix(".jsonl")
            yield f"report-{name}", lambda run=run: {"code": main(["report", "--run-dir", str(run)])}
    strange = folder / "strange"
    for name in ("fifo.jsonl", "...jsonl", "..jsonl", "folder.jsonl", "nowhere.jsonl"):
        shutil.rmtree(strange, ignore_errors=True)
        strange.mkdir()
        shutil.copy(clean, strange / "clean.jsonl")
        make = {"fifo": os.mkfifo, "folder": os.mkdir}.get(name.removesuffix(".jsonl"))
        if make:
            make(strange / name)
        elif name == "nowhere.jsonl":
            os.symlink("nothing", strange / name)
        else:
            shutil.copy(clean, strange / name)
        yield f"input-{name}", lambda: answers(checkpoint, strange, folder / "out" / "deep")


def place_cases(folder: Path, watch: Watch) -> Iterator[Case]:
    checkpoint = prepared(folder)
    root = places.build(folder / "world")
    watch.outside = os.path.realpath(folder / "world")

    def run(name: str, paths: list[str], *more: str) -> Callable[[], Any]:
        listed = [{"id": f"{n}", "prompt": "What?", "images": [path]} for n, path in enumerate(paths)]
        source = write_rows(root / f"{name}.jsonl", listed)
        return lambda: (
            answers(checkpoint, source, folder / "out", *more) | {"canaries": canaries(folder / "out" / name)}
        )

    yield "clean", run("clean", places.GOOD)
    paths = [path.replace("{outside}", str(folder / "world")) for path in places.PATHS]
    for number, path in enumerate(paths):
        yield f"path {number} {path[:60]!a}", run(f"path-{number}", ["good.png", path, "good.png"])
    yield "paths together", run("together", paths)
    yield "root above", run("above", ["data/good.png", "../canary.png"], "--data-root", str(root))
    addresses = [f"{scheme}://{host}/canary.png" for scheme in ("http", "https") for host in places.PRIVATE]
    addresses += places.NO_ADDRESS
    yield "addresses unasked", run("unasked", [*addresses, "http://example.org/a.png", "HTTPS://example.org/a.png"])
    yield "addresses asked for", run("asked", addresses, "--allow-network")


def canaries(run: Path) -> list[str]:
    """Pictures of a run that show what lies outside the root."""
    found = []
    for path in run.rglob("*.png"):
        with Image.open(path) as image:
            if image.convert("RGB").getpixel((0, 0)) == pictures.CANARY:
                found.append(str(path))
    return found


def suite_cases(folder: Path, watch: Watch) -> Iterator[Case]:
    checkpoint = prepared(folder)
    root = folder / "data"
    root.mkdir()
    bad = corpus.written("suites", root)

    def read(path: Path) -> dict[str, Any]:
        questions = load_suite(str(path)).questions
        return {"ids": [question.id for question in questions], "failed": [q.row for q in questions if q.error]}

    def bench(path: Path) -> dict[str, Any]:
        words = ["--model-path", str(checkpoint), "--data", str(path), "--output-dir", str(folder / "out"), *SHORT]
        words.append("--no-resume")
        code = main(["bench", *words])
        return {"code": code, "rows": recorded(folder / "out" / RESULTS), "bad": bad[path.name]}

    yield "clean", lambda: bench(root / "ok-plain.parquet")
    for path in sorted(root.iterdir()):
        yield path.name, lambda path=path: read(path)
    for name in bad:
        yield f"bench-{name}", lambda name=name: bench(root / name)


def checkpoint_cases(folder: Path, watch: Watch) -> Iterator[Case]:
    world = folder / "world"
    whole = write_checkpoint(world / "data" / "whole")
    watch.outside = os.path.realpath(world)
    state = load_file(whole / "model.safetensors")
    save_file(
        {name: torch.full_like(tensor, 7.0) for name, tensor in state.items()}, world / "data" / "canary.safetensors"
    )

    def used(path: Path) -> Callable[[], Any]:
        def use() -> dict[str, Any]:
            omni = omni_r1.load(str(path))
            codes = omni.encode([pictures.noise()])
            omni.decode(codes)
            prompt = omni.prompt("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! What is <image>?", [pictures.noise()])
            [completion] = omni.generate([prompt], max_new_tokens=3)
            canary = bool((next(iter(omni.model.state_dict().values())) == 7.0).all())
            return {"canary": canary, "error": completion.error, "ran": os.path.exists("pickled")}

        return use

    yield "clean", used(whole)
    for name, damage in settings.damages().items():
        copy = world / "data" / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in whole.iterdir():
            os.symlink(file, copy / file.name)
        damage(copy)
        yield name, used(copy)


FAMILIES = {
    "pictures": picture_cases,
    "rows": row_cases,
    "places": place_cases,
    "suites": suite_cases,
    "checkpoints": checkpoint_cases,
}
