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
        {"step": 2 * step, "perpo_step": step, "accuracy": 0.1 * step, "loss": 1e-9, "kl": None, "alarms": 0}
        for step in range(1, 6)
    ]
    rows[2] |= {"alarms": 1, "alarm": "it stops <drawing>"}
    return write_log(tmp_path / "<run>", [*rows, {"step": 10, "train_runtime": 3.0, "loss": 9.0}])


def test_curves(run, capsys):
    assert main(["report", "--run-dir", str(run)]) == 0
    path = run / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    html = path.read_text()
    assert html.count("<polyline") == 2 and html.count('class="alarm"') == 2  # accuracy and loss, an alarm in each
    assert "Answers right: 0.1 at first, 0.5 at last." in html
    assert "<li>Step 3: it stops &lt;drawing&gt;</li>" in html and "dashed line" in html
    assert "step 1<" in html and ">5</text>" in html
    assert "<run>" not in html and "&lt;run&gt;" in html and "<script" not in html


def test_an_alarm_of_many_steps_is_one_line():
    said = {1: "0.2 images", 2: "0.1 images", 3: "flat", 5: "0.3 images"}
    rows = [{"step": step, "alarms": step in said, "alarm": said.get(step)} for step in range(1, 6)]
    html = training.alarms(rows)
    assert html.count("<li>") == 3 and "<li>Step 1 to 2, 2 of them: 0.2 images</li>" in html
    assert training.alarms([{"step": 1, "alarms": 0.0}]) == ""


def test_what_it_is_of(run):
    options = {"model_path": "out/<start>", "train_data": "out/questions.jsonl", "profile": "default"}
    (run / "run.json").write_text(json.dumps({"options": options}))
    html = training.page(run, [])
    assert "&lt;start&gt; learns from questions.jsonl. Its reward is of profile default. 5 steps so far." in html


def test_a_long_run_is_told_in_means_of_ten_steps(tmp_path):
    values = [step % 2 for step in range(20)] + [1] * 10
    rows = [{"step": step, "accuracy": value} for step, value in enumerate(values, 1)]
    html = training.page(write_log(tmp_path / "long", rows), [])
    assert "Answers right: 0.5 in the first 10 steps, 1 in the last 10." in html
    assert html.count("<polyline") == 2 and html.count('class="single"') == 1
    assert training.smooth([0, 2, 4] + [8] * 12)[:4] == [0, 1, 2, 3.5]
    assert training.smooth([0, 2, 4] + [8] * 12)[-1] == 8


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
