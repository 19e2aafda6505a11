"""`omni-r1 bench compare`: the verdict, the refusals, the page, and that nothing of it changes from run to run."""

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from fake_run import fake_run, write_rows
from html_reader import HOSTILE, Reader, rows_of
from omni_r1.bench.compare import Run, changed_options, compare
from omni_r1.bench.statistics import summarise
from omni_r1.cli import main
from omni_r1.errors import InputError
from omni_r1.files import AppendLog
from omni_r1.run_record import HOW, JUDGE
from omni_r1.show.compare import tables


def plain_run(name: str, right: list[bool], samples: int = 1, **more) -> Run:
    """A run of as many questions as `right` is long over `samples`, in two tasks."""
    records = [
        {"id": f"q{k // samples}", "sample": k % samples, "status": "ok", "task": "xy"[k // samples % 2],
         "question": "?", "gold": "red", "answer": "red" if correct else "blue", "correct": correct, "segments": [],
         "gold_images": [], **more}
        for k, correct in enumerate(right)
    ]  # fmt: skip
    return Run(name, records, f"{name}/results.jsonl", "suite")


def write_run(folder: Path, worse: float = 0.0, seed: int = 1, rows: int = 66, suite: str = "miniature") -> Path:
    """A run of the same questions as any other of so many rows, some of its right answers made wrong."""
    run, rng = fake_run(folder, rows), random.Random(seed)
    records = rows_of(run)
    for record in records:
        if record["correct"] and rng.random() < worse:
            record |= {"correct": False, "answer": "grey", "reason": "'grey' is another colour"}
            record["segments"][-1]["text"] = "Final Answer: grey"
    (run / "summary.json").write_text(json.dumps({"suite": suite, **summarise(records)}))
    return write_rows(run, records)


GRADED = {"primary": "judge", "judge_model": "m", "judge_url": "http://a/v1"}


def words(tmp_path: Path, *runs: Path) -> list[str]:
    return ["bench", "compare", *map(str, runs), "--output-dir", str(tmp_path / "out")]


def test_a_real_difference_and_none():
    same = [True] * 30 + [False] * 70
    better = [True] * 50 + [False] * 50
    found = compare([plain_run("a", same), plain_run("b", better), plain_run("c", same)])
    overall = found.against["b"]["overall"]
    assert overall.shown and overall.difference.value == pytest.approx(0.2)
    assert (overall.better, overall.worse) == (20, 0) and len(found.differing) == 20
    assert overall.p == pytest.approx(2 * overall.difference.p)  # two runs are tested against the first
    none = found.against["c"]["overall"]
    assert not none.shown and none.p == 1.0 and none.difference.questions_needed is None
    assert set(found.against["b"]) == {"overall", "x", "y"}
    assert found.figures["a"]["constant"]["overall"] == 1.0  # all golds are one


def test_several_samples_are_one_question():
    rng = random.Random(0)
    one = [rng.random() < 0.5 for _ in range(160)]
    other = [right or k % 4 == 0 for k, right in enumerate(one)]
    found = compare([plain_run("a", one, 4), plain_run("b", other, 4)])
    better = sum(not right for k, right in enumerate(one) if k % 4 == 0)
    assert found.against["b"]["overall"].better == better and found.figures["b"]["count"]["overall"] == 40
    assert found.against["b"]["overall"].difference.value == pytest.approx(better / 160)


def test_order_of_records_does_not_count():
    rng = random.Random(4)
    runs = [plain_run(name, [rng.random() < 0.5 for _ in range(60)]) for name in "ab"]
    before = compare(runs).against
    rng.shuffle(runs[1].records)
    assert compare(runs).against == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.records.pop(), "'q9' is in a, not in b"),
        (lambda run: run.records[3].update(gold="green"), "'q3' is not the same in a and b: 'red' and 'green'"),
        (lambda run: run.records[3].update(question="What?"), "field 'question'"),
        (lambda run: run.records.append(run.records[0]), "'q0' has two records of sample 0"),
        (lambda run: run.records[0].pop("id"), "field 'id': is missing"),
        (lambda run: run.records.clear(), "no records"),
        (lambda run: run.records[3].update(options=["red", "blue"]), "field 'options': of 'q3' is not the same"),
        (lambda run: run.records[3].update(profile="judge"), "field 'profile': of 'q3' is not the same"),
        (lambda run: run.read.update({"a.parquet": "2"}), "field 'data': of b is not what a has read: a.parquet"),
        (lambda run: run.options.update(GRADED), "field 'primary': b is graded by the judge m at http://a/v1, a by"),
    ],
)
def test_runs_of_other_questions_are_refused_by_name(change, message):
    one, other = plain_run("a", [True] * 10), plain_run("b", [True] * 10)
    one.read, other.read = {"data.parquet": "1"}, {"a.parquet": "1"}
    compare([one, other])
    change(other)
    with pytest.raises(InputError, match=r"b/results\.jsonl") as error:
        compare([one, other])
    assert message in str(error.value)


def test_the_same_questions_under_another_name_are_compared():
    one, other = plain_run("a", [True] * 10), plain_run("b", [True] * 10)
    other.suite, other.read = "omni-bench_cleaned", {"a.parquet": "1"}  # what the first has read is not known
    compare([one, other])
    one.options, other.options = GRADED, GRADED | {"judge_retries": 9, "judge_url": "http://a/v1/"}
    compare([one, other])
    for change, told in (({"judge_model": "n"}, "n at http://a"), ({"judge_url": "http://b"}, "m at http://b")):
        other.options = GRADED | change
        with pytest.raises(InputError, match=f"b is graded by the judge {told}.*, a by the judge m at http://a/v1"):
            compare([one, other])


def test_a_run_whose_verdicts_are_missing_is_refused():
    runs = [plain_run("a", [True] * 12), plain_run("b", [True] * 12)]
    for record in runs[0].records[:9]:
        record["correct"] = None
    compare(runs)  # the rules' verdicts are what they are
    for run in runs:
        run.options = GRADED
    with pytest.raises(InputError) as error:
        compare(runs)
    told = "9 of 12 verdicts of the judge are missing; the same command asks for them again"
    assert str(error.value) == f"a/results.jsonl: field 'primary': {told}"


def test_accuracies_of_a_judge_say_that_they_are_its():
    runs = [plain_run("a", [True]), plain_run("b", [True])]
    assert tables(compare(runs))[0].title == "Accuracy"
    for run in runs:
        run.options = GRADED
    assert tables(compare(runs))[0].title.startswith("Accuracy by the judge m")


def test_options_that_no_figure_depends_on_are_no_difference():
    one, other = plain_run("a", [True]), plain_run("b", [True])
    one.options = dict.fromkeys(HOW, 1) | {"mode": "text-only", "primary": "rule"}
    other.options = dict.fromkeys(HOW, 2) | {"mode": "interleaved", "primary": "rule"}
    assert {"outfile", "retry_errors", "device", "judge_retries", "judge_price_in"} <= HOW
    assert changed_options([one, other]) == {"mode": ["text-only", "interleaved"]}
    one.options["control_path"], other.options["control_path"] = "x", "y"  # its accuracy is one of the figures
    assert changed_options([one, other]).pop("control_path") == ["x", "y"]
    del one.options["control_path"], other.options["control_path"]
    for run in (one, other):  # here the judge's verdicts are the figures
        run.options["primary"] = "judge"
    assert changed_options([one, other]).keys() == {"mode", *JUDGE}


def test_the_verb(tmp_path, capsys):
    one, other = write_run(tmp_path / "x" / "run"), write_run(tmp_path / "y" / "run", 0.5)
    run = json.loads((other / "run.json").read_text())
    run["options"]["mode"] = "text-only"
    (other / "run.json").write_text(json.dumps(run))
    assert main(words(tmp_path, one, other)) == 0
    said = capsys.readouterr().out
    assert said.startswith("y/run is worse than x/run: ") and "constant answer" in said and "text-only" in said
    page, out = Reader((tmp_path / "out" / "compare.html").read_text()), tmp_path / "out"
    found = json.loads((out / "compare.json").read_text())
    assert found["against"]["y/run"]["overall"]["shown"] is True
    assert len(page.all("article")) == len(found["differing"]) == found["against"]["y/run"]["overall"]["worse"]
    assert page.text.count("Final Answer:") == 2 * len(found["differing"])
    assert len(page.all("section")) == 2 * len(found["differing"]) and "95% interval" in page.text
    note = "p is Holm-adjusted: overall over 1 test, the tasks over 4 tests."
    assert all(note in text for text in (said, page.text, (out / "compare.md").read_text()))
    assert said.splitlines()[0] in page.text and said.splitlines()[0] in (out / "compare.md").read_text()
    assert "| y/run |" in (out / "compare.md").read_text()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(words(tmp_path, one, other)) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_no_difference_says_how_many_questions_it_would_take(tmp_path, capsys):
    runs = write_run(tmp_path / "a"), write_run(tmp_path / "b", 0.04, seed=8)
    assert main(words(tmp_path, *runs)) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("No difference between b and a is shown") and "questions would be needed" in said
    assert "No difference that is more than noise" in (tmp_path / "out" / "compare.html").read_text()


def test_answers_that_are_none_are_told(tmp_path, capsys):
    """A column for each kind that a run has; and in words where failures may be what makes the difference."""
    one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert main(words(tmp_path, one, other)) == 0  # as many failed in both
    said = capsys.readouterr().out
    [at] = [k for k, line in enumerate(said.splitlines()) if line.startswith("Answers that are neither")]
    assert [line.split() for line in said.splitlines()[at + 1 : at + 4]] == [
        ["answers", "failed"], ["a", "66", "6"], ["b", "66", "6"],
    ]  # fmt: skip
    assert "Answers that failed" not in said
    records = rows_of(other)
    for record in records[:8]:
        record |= {"status": "error", "error": "out of memory", "correct": None}
    records[8] |= {"answer": None, "correct": False}
    write_rows(other, records)
    assert main(words(tmp_path, one, other)) == 0
    said, page = capsys.readouterr().out, (tmp_path / "out" / "compare.html").read_text()
    told = "Answers that failed, 14 of 66 in b and 6 of 66 in a, count as not right"
    tables = (tmp_path / "out" / "compare.md").read_text()
    assert told in said and told in page and told in tables and "| run | answers | failed | no answer |" in tables


def test_published_rows_stand_beside_runs_of_omni_bench(tmp_path, capsys):
    runs = [write_run(tmp_path / name, suite="omni-bench", rows=12) for name in "ab"]
    assert main(words(tmp_path, *runs)) == 0
    said = capsys.readouterr().out
    assert "Zebra-CoT (Anole) (published)" in said and "arXiv 2601.09536" in said
    assert "(published)" in (tmp_path / "out" / "compare.html").read_text()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "field 'runs': must be two folders at least"),
        (["a", "a"], "is given twice"),
        (["a", "none"], "no results.jsonl"),
        (["a", "unfinished"], "no summary.json: the run did not finish"),
        (["a", "torn"], "results.jsonl:13: malformed JSON"),
        (["a", "touched"], "results.jsonl:2: damaged row: checksum does not match"),
        (["a", "short"], "questions are not in both runs"),
        (["a", "changed"], "field 'data': of changed is not what a has read: a.parquet"),
    ],
)
def test_what_cannot_be_compared(tmp_path, capsys, names, message):
    for name in {"a", "unfinished", "torn", "touched", "short", "changed"} & set(names):
        write_run(tmp_path / name, rows=11 if name == "short" else 12)
        (tmp_path / name / "suite.json").write_text(json.dumps({"files": {"a.parquet": str(name == "changed")}}))
    if "unfinished" in names:
        (tmp_path / "unfinished" / "summary.json").unlink()
    if "touched" in names:
        rows = [{"id": "1", "correct": False}, {"id": "2", "correct": False}]
        (tmp_path / "touched" / "results.jsonl").unlink()
        with AppendLog(tmp_path / "touched" / "results.jsonl") as log:
            for row in rows:
                log.append(row)
        lines = log.path.read_text().splitlines()
        log.path.write_text("\n".join([lines[0], lines[1].replace("false", "true")]) + "\n")
    if "torn" in names:
        with (tmp_path / "torn" / "results.jsonl").open("a") as out:
            out.write('{"id": "cut o')
    assert main(words(tmp_path, *(tmp_path / name for name in names))) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_whatever_a_model_writes_stays_text(tmp_path):
    runs = [write_run(tmp_path / name, worse, rows=12) for name, worse in (("<b>a", 0.0), ("b", 1.0))]
    place = next(k for k, row in enumerate(rows_of(runs[0])) if row["correct"])
    for run in runs:
        records = rows_of(run)
        for key in ("id", "task", "question", "gold", "answer", "reason"):
            records[place][key] = HOSTILE + key
        records[place]["segments"][0]["text"] = HOSTILE
        write_rows(run, records)
        (run / "run.json").write_text(json.dumps({"options": {"model_path": HOSTILE + run.name, HOSTILE: run.name}}))
        (run / "summary.json").write_text(json.dumps({"suite": HOSTILE}))
    assert main(words(tmp_path, *runs)) == 0
    page = Reader((tmp_path / "out" / "compare.html").read_text())
    assert page.text.count(HOSTILE) > 10 and all(len(code) == 1 for code in page.code.values())
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not [tag for tag, _ in page.tags if tag == "img" and _.get("src") == "x"]
    assert HOSTILE not in (tmp_path / "out" / "compare.md").read_text()


def test_runs_that_were_shown_other_pictures_are_refused(tmp_path, capsys):
    """Pictures that lie beside the data are in no sum of its files."""
    runs = one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", 0.5)
    shown = other / "images" / "3-question-0.png"
    with Image.open(shown) as picture:
        picture.save(shown, "PNG", compress_level=0)  # other bytes, the same pixels
    assert shown.read_bytes() != (one / "images" / shown.name).read_bytes()
    assert main(words(tmp_path, *runs)) == 0
    Image.new("RGB", (64, 64), "red").save(shown)
    capsys.readouterr()
    assert main(words(tmp_path, *runs)) == 2
    told = f"field 'question_images': of '{rows_of(other)[3]['id']}' are not the same in a and b"
    assert told in capsys.readouterr().err
    run = json.loads((other / "run.json").read_text())
    run["options"]["swap_pictures"] = True  # asked for: whether pictures count is what the two runs are about
    (other / "run.json").write_text(json.dumps(run))
    assert main(words(tmp_path, *runs)) == 0
    write_rows(other, [row | {"question_images": row["question_images"] * 2} for row in rows_of(other)])
    (one / "run.json").write_text(json.dumps(run))
    assert main(words(tmp_path, *runs)) == 2


def test_a_picture_that_is_missing_is_told(tmp_path, capsys):
    runs = write_run(tmp_path / "a"), write_run(tmp_path / "b", 0.5)
    for picture in (runs[1] / "images").glob("*drawn-0.png"):
        picture.unlink()
    assert main(words(tmp_path, *runs)) == 2
    assert "cannot be read" in capsys.readouterr().err and "This picture" in (tmp_path / "out/compare.html").read_text()
