"""A run of a few rows on a tiny checkpoint that is loaded once, so that hundreds of such runs take little time."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni_r1 import run_record
from omni_r1.bench import beginning, run
from omni_r1.cli import main
from omni_r1.generate import runner
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import load
from omni_r1.options import SHIPPED
from run_files import write_questions
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def quick(checkpoint, monkeypatch) -> Iterator[None]:
    """Nothing is loaded twice and no prompt completed twice; nobody asks for commit and versions."""
    omni, threads = load(checkpoint), torch.get_num_threads()
    torch.set_num_threads(1)
    for module in (runner, run):
        monkeypatch.setattr(module, "load", lambda *_, **__: omni)
    stream, said = TransformersBackend.stream, {}

    def remembered(self, requests, options, progress=None):
        for request in requests:
            key = (*request.prompt, *request.seeds, options)
            if key not in said:
                said[key] = list(stream(self, [request], options, progress))
            for _, place, completion in said[key]:
                yield request.key, place, completion

    monkeypatch.setattr(TransformersBackend, "stream", remembered)
    suite = beginning.load_suite(SHIPPED)
    monkeypatch.setattr(beginning, "load_suite", lambda *_: replace(suite))
    monkeypatch.setattr(run_record, "_commit", lambda: None)
    monkeypatch.setattr(run_record, "_version", lambda package: None)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generate(checkpoint, quick, tmp_path) -> Callable[..., int]:
    """`generate(output_dir, *options, rows=2)` answers rows into `output_dir`/rows; its exit code.

    Every row draws one image, of 16 codes.
    """

    sources: dict[int, Path] = {}

    def generate(output_dir: Path, *more: str, rows: int = 2) -> int:
        source = sources.get(rows) or sources.setdefault(rows, write_questions(tmp_path / f"input-{rows}", rows))
        words = ["--input", str(source), "--model-path", str(checkpoint), "--output-dir", str(output_dir)]
        return main(["generate", *words, "--mode", "image-only", "--max-images", "1", *more])

    return generate
