"""The page of a bootstrapped folder."""

import json
import shutil
from pathlib import Path

import pytest

from omni_r1.cli import main
from omni_r1.pesft.card import drawn_by
from omni_r1.show.drawings import Sheet
from tiny import write_checkpoint
from zero_rows import chains, drawings


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("zero")
    checkpoint = write_checkpoint(place / "model")
    source = chains(place / "in", 8)
    source.write_text(source.read_text().replace("I look at 1 of 4.", "<b>One</b> of 4."))
    words = ["--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint), "--do-sample"]
    assert main(["bootstrap", *words, "--output-path", str(place / "out"), "--candidates", "2"]) == 0
    return place / "out"


def test_every_drawing_that_was_taken_is_shown(folder, capsys):
    assert main(["report", "--run-dir", str(folder)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    page = (folder / "report.html").read_text()
    taken = [each for each in drawings(folder) if each["taken"]]
    asked = [each for each in drawings(folder) if "question" in each]
    assert len(asked) == len({each["id"] for each in taken})  # each row's first line
    assert page.count("data:image/png;base64,") == len(taken) + sum(len(each["pictures"]) for each in asked)
    assert page.count("picture of the question") == len(asked) and "&lt;image&gt;" not in page
    assert "&lt;b&gt;One&lt;/b&gt; of 4." in page and "<b>One</b>" not in page
    assert "<td>empty-answer</td>" in page  # with its row and its message
    assert "rows read" in page and "dropped: empty-answer" in page and "default-src 'none'" in page


def test_what_was_dropped_is_shown_too(folder, tmp_path, capsys):
    """And a run of which nothing was left has a page: it is needed there most."""
    source, model = chains(tmp_path / "in", 6), folder.parent / "model"
    words = ["bootstrap", "--input", str(source), "--format", "jsonl", "--model-path", str(model), "--do-sample"]
    words += ["--candidates", "3", "--chunk-size", "3", "--output-path"]
    assert main([*words, str(tmp_path / "all")]) == 0
    scores = sorted(each["scores"]["confidence"] for each in drawings(tmp_path / "all"))
    least = str(scores[len(scores) // 2])
    assert main([*words, str(tmp_path / "some"), "--min-confidence", least]) == 0
    assert main(["report", "--run-dir", str(tmp_path / "some")]) == 0
    page = (tmp_path / "some" / "report.html").read_text()
    assert "<h2>Written" in page and "<h2>Dropped: unsure" in page and "<h2>Passed over" in page
    assert main([*words, str(tmp_path / "none"), "--min-confidence", "0"]) == 2
    assert main(["report", "--run-dir", str(tmp_path / "none")]) == 0
    page = (tmp_path / "none" / "report.html").read_text()
    assert "0 of 6 rows have a drawing" in page and "It ended with every row dropped" in page
    (tmp_path / "none" / "rejects.jsonl").unlink()  # as where it was killed
    assert main(["report", "--run-dir", str(tmp_path / "none")]) == 0
    page = (tmp_path / "none" / "report.html").read_text()
    assert "It is not finished" in page
    assert "<h2>Dropped: unsure" in page and "<h2>Written" not in page
    capsys.readouterr()


class Blank(Sheet):
    def __init__(self) -> None:
        pass

    def picture(self, codes, about) -> str:
        return "<img>"


def test_drawings_of_a_step_are_alternatives():
    def line(step, **more):
        return {"step": step, "words": "I look.", "codes": [], "scores": {"confidence": -0.0}} | more

    lines = [line(1, taken=True), line(1), line(1, reason="copy"), line(2, taken=True)]
    row = Blank().row({"id": "a", "question": "Which?", "answer": "red", "pictures": [[]]}, lines)
    assert row.count("<li") == 3 and row.count("<img>") == 5  # an arrow is before each panel but the first
    assert [row.count(f'"candidate {kind}"') for kind in ("right", "other", "wrong")] == [2, 1, 1]
    assert "<dd>0</dd>" in row and "-0" not in row


def test_a_row_whose_id_comes_again_keeps_its_own_reason(folder, tmp_path, capsys):
    source = chains(tmp_path / "in", 3)
    source.write_text(source.read_text() + source.read_text().splitlines()[1] + "\n")
    words = ["bootstrap", "--input", str(source), "--format", "jsonl", "--model-path", str(folder.parent / "model")]
    assert main([*words, "--output-path", str(tmp_path / "out"), "--min-confidence", "0"]) == 2
    assert main(["report", "--run-dir", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "dropped: duplicate-id" in page and "<h2>Dropped: duplicate-id" not in page
    assert "<h2>Dropped: unsure" in page and "Rows: 2." in page
    capsys.readouterr()


def test_a_damaged_line_is_named(folder, tmp_path, capsys):
    file = folder / "drawings" / "00000.jsonl"
    before = file.read_text()
    file.write_text(before[:200])
    assert main(["report", "--run-dir", str(folder)]) == 2
    assert "00000.jsonl" in capsys.readouterr().err
    file.write_text('{"id": "row 1", "taken": true, "written": true, "scores": {}}\n')
    assert main(["report", "--run-dir", str(folder)]) == 2
    assert "field 'row 1': is no drawing" in capsys.readouterr().err
    file.write_text(before)


def test_a_checkpoint_that_was_moved_is_named_anew(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "out")
    moved = folder.parent / "model"
    run = tmp_path / "out" / "run.json"
    run.write_text(run.read_text().replace(json.dumps(str(moved)), json.dumps(str(tmp_path / "gone"))))
    words = ["report", "--run-dir", str(tmp_path / "out")]
    assert main(words) == 2
    assert "field 'model_path': say where the checkpoint is that drew" in capsys.readouterr().err
    assert main([*words, "--model-path", str(moved)]) == 0
    other = write_checkpoint(tmp_path / "other", seed=1)
    for unfinished in (False, True):
        assert main([*words, "--model-path", str(other)]) == 2
        assert "its VQ is not the one that drew" in capsys.readouterr().err
        if not unfinished:
            (tmp_path / "out" / "manifest.json").unlink()
    assert main([*words, "--model-path", str(moved)]) == 0


def test_who_drew_is_on_the_card_of_what_is_trained_on_it(folder, tmp_path):
    model = folder.parent / "model"
    words = ["--model-path", str(model), "--train-data", str(folder), "--output-path", str(tmp_path / "out")]
    assert main(["pesft", *words, "--max-steps", "1"]) == 0
    sums = json.loads((folder / "manifest.json").read_text())["drawn_by"]["files"]
    elsewhere = {"model": "/home/someone/base", "files": {}}
    assert drawn_by(elsewhere).startswith("none by hand: all by `base`")
    told = f"- drawings: none by hand: all by `model` (sha256 of model.safetensors {sums['model.safetensors'][:12]})"
    assert told in (tmp_path / "out" / "README.md").read_text()
