"""The page of a training run: a curve for every figure there is, alarms, links to samples; nothing that could run."""

import json

import pytest

from omni_r1.cli import main
from omni_r1.show import training


def write_log(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / training.LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(tmp_path):
    rows = [
        {"step": 2 * step, "perpo_step": step, "accuracy": 0.1 * step, "loss": 1e-9, "kl": None, "alarms": step == 3}
        for step in range(1, 6)
    ]
    return write_log(tmp_path / "<run>", [*rows, {"step": 10, "train_runtime": 3.0, "loss": 9.0}])


def test_curves(run, capsys):
    assert main(["report", "--run-dir", str(run)]) == 0
    path = run / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    html = path.read_text()
    assert html.count("<polyline") == 2 and html.count('class="alarm"') == 2  # accuracy and loss, an alarm in each
    assert "Answers right: 0.1 at first, 0.5 at last." in html and "Alarms were raised in 1 steps." in html
    assert "step 1<" in html and ">5</text>" in html
    assert "<run>" not in html and "&lt;run&gt;" in html and "<script" not in html


def test_of_one_row_and_of_none(tmp_path):
    one = write_log(tmp_path / "one", [{"step": 1, "loss": 2.5}])
    assert "<polyline" in training.page(one, [])
    none = write_log(tmp_path / "none", [])
    assert "Nothing is logged yet" in training.page(none, [])


def test_a_malformed_row_is_named(tmp_path, capsys):
    run = write_log(tmp_path / "run", [{"step": 1}])
    with (run / training.LOG).open("a") as log:
        log.write("{\n")
    assert main(["report", "--run-dir", str(run)]) == 2
    assert "log.jsonl:2: malformed JSON" in capsys.readouterr().err
