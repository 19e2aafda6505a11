"""The miniature that ships: its size, what it can do, and that it needs the picture. `demo` has all figures."""

import json

import numpy as np
import pytest

from omni_r1 import load, shipped
from omni_r1.bench.run import run_bench
from omni_r1.bench.suites import load_suite
from omni_r1.cli import main
from omni_r1.data.miniature.corpus import BASE_TASKS, TASK_NAMES, captioned
from omni_r1.data.miniature.tiles import read
from omni_r1.data.miniature.world import TASKS, Sample, sample
from omni_r1.generate.questions import open_source
from omni_r1.options import SHIPPED, BenchOptions
from omni_r1.trajectory import Image

pytestmark = pytest.mark.timeout(600)  # four hundred questions take a minute on two cores that have nothing else to do


def bench(folder, **changed) -> dict:
    return run_bench(BenchOptions(SHIPPED, output_dir=str(folder), max_new_tokens=400, batch_size=50, **changed))[1]


def pixels(question) -> np.ndarray:
    return np.asarray(open_source(question.images[0], question.where))


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> dict:
    return bench(tmp_path_factory.mktemp("bench"))


def test_it_is_small():
    assert sum(file.stat().st_size for file in shipped.ASSETS.rglob("*") if file.is_file()) <= 25_000_000


def test_the_bench_is_held_out_and_complete():
    questions = load_suite(SHIPPED).questions
    assert len(questions) == 400 and not any(question.error for question in questions)
    for question in questions:
        grid = read(pixels(question))
        assert Sample(question.task or "", question.text, grid, (), "").held_out
    assert len({question.text + str(read(pixels(question))) for question in questions}) == 400


def test_training_never_saw_a_picture_of_the_bench():
    """The corpora of runs/miniature.sh once more, without their codes."""
    bench = {read(pixels(question)).tobytes() for question in load_suite(SHIPPED).questions}
    rng = np.random.default_rng(1)
    for number in range(20_800):
        prompt, response = captioned(rng, BASE_TASKS[number % len(BASE_TASKS)])
        assert not any(part.tobytes() in bench for part in prompt + response if isinstance(part, np.ndarray))
    more = ("chart", "chart", "scene", "chart", "board", "chart", "diagram", "scene")
    for seed, tasks in ((2, TASK_NAMES), (4, more)):
        rng = np.random.default_rng(seed)
        for number in range(8_000):
            assert sample(tasks[number % len(tasks)], rng).picture.tobytes() not in bench


def test_it_answers_and_draws(summary):
    assert summary["accuracy"]["overall"] >= 0.90
    assert summary["step_accuracy"]["overall"] >= 0.85
    assert summary["valid_images"]["overall"] == 1.0
    for task in TASKS:
        assert summary["accuracy"][task] >= 0.80


def test_another_picture_another_answer(summary, tmp_path):
    swapped = bench(tmp_path, swap_pictures=True)
    for task in TASKS:
        assert swapped["interval"][task][0] <= swapped["constant"][task]
        assert swapped["accuracy"][task] < summary["accuracy"][task] / 2


def test_the_picture_comes_back_from_its_codes():
    omni = load(str(shipped.MODEL))
    pictures = [open_source(question.images[0], question.where) for question in load_suite(SHIPPED).questions[:8]]
    ids = omni.encode(pictures)
    assert ids.shape == (8, omni.vocabulary.image_length)
    assert (omni.encode(omni.decode(ids)) == ids).float().mean() > 0.99
    assert Image(tuple(omni.vocabulary.tokens_to_codes(ids)[0].tolist()))


def test_demo_from_end_to_end(tmp_path, capsys):
    assert main(["demo", "--output-dir", str(tmp_path / "demo"), "--limit", "8"]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "board" in said
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    for key in ("accuracy", "interval", "step_accuracy", "valid_images"):
        assert set(summary[key]) == {"overall", *TASKS}
    assert summary["tokens_per_second"] > 0 and summary["seconds"] > 0
    assert len((tmp_path / "demo" / "results.jsonl").read_text().splitlines()) == 8
    assert "<html" in (tmp_path / "demo" / "report.html").read_text()
