"""The bench's own way of running: workers that die, the original's command, a run that goes on."""

import base64
import io
import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from omni_r1.bench import run
from omni_r1.bench.beginning import folder_of
from omni_r1.bench.statistics import MISSING
from omni_r1.bench.suites import Item, Suite
from omni_r1.cli import main
from omni_r1.errors import InputError
from omni_r1.files import AppendLog
from omni_r1.generate.backend import Completion, SamplingOptions, WorkerError, room_for_an_image
from omni_r1.generate.questions import Question
from omni_r1.generate.runner import Answered, Task
from omni_r1.options import BenchOptions
from omni_r1.run_record import RESULTS
from tiny import write_checkpoint


@pytest.fixture
def dying(monkeypatch):
    """`dying(*lives)`: workers that die after so many answers, one life after the other; the last lives on."""
    asked: list[list[tuple[str, list[int]]]] = []

    def dying(*lives: int):
        left = list(lives)

        def answer(backend, omni, tasks, options, **_):
            asked.append([(task.question.id, list(task.seeds)) for task in tasks])
            life = left.pop(0) if left else 999
            for task in tasks:
                for place in range(len(task.samples)):
                    if not life:
                        raise WorkerError("worker 1 of 2 (cpu, process 7) died: SIGKILL")
                    life -= 1
                    yield Answered(task, place, None, [])

        monkeypatch.setattr(run, "answer", answer)
        monkeypatch.setattr(run, "open_backend", lambda options: (None, None))
        return asked

    return dying


def answered(device: str = "cpu,cpu") -> list[tuple[str, int]]:
    tasks = [Task(Question(name), [0, 1], [10, 11]) for name in "abc"]
    found = run.answers(None, None, tasks, BenchOptions("m", device=device), "x")
    return [(one.task.question.id, one.task.seeds[one.place]) for one in found]


def test_what_a_dead_worker_was_at_is_asked_again(dying, capsys):
    asked = dying(3, 1)
    assert answered() == [(name, seed) for name in "abc" for seed in (10, 11)]
    assert asked[1:] == [[("b", [11]), ("c", [10, 11])], [("c", [10, 11])]]
    assert capsys.readouterr().err.count("worker 1 of 2 (cpu, process 7) died: SIGKILL; what it was at") == 2


def test_a_death_before_the_first_answer_is_not_the_end(dying):
    asked = dying(0, 1, 2)
    assert answered() == [(name, seed) for name in "abc" for seed in (10, 11)]
    assert asked[0] == asked[1] and len(asked) == 4


def test_workers_that_only_die_end_the_run(dying):
    for lives in ((2, 0), (0, 0)):
        dying(*lives)
        with pytest.raises(WorkerError):
            answered()
    dying(2)
    with pytest.raises(WorkerError):
        answered("cpu")


@pytest.mark.parametrize(("profile", "right"), [(None, True), ("strict", False)])
def test_the_control_is_graded_by_the_same_rules(tmp_path, monkeypatch, profile, right):
    said = SimpleNamespace(answer="14.5", error=None)
    monkeypatch.setattr(run, "TransformersBackend", lambda *_: None)
    monkeypatch.setattr(run, "answer", lambda backend, omni, tasks, *_, **__: (Answered(t, 0, said, []) for t in tasks))
    suite = Suite("x", [Item("a", gold="14", profile="relaxed", row=1)])
    options = BenchOptions("m", control_path="c", profile=profile)
    found = run.control_answers(SimpleNamespace(path=tmp_path), suite, options, "omni")
    assert found == {"a": {"answer": "14.5", "correct": right, "error": None}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    cell = base64.b64encode(out.getvalue()).decode()
    about = {"question": "Which?", "answer": "1", "difficulty": 0.5, "tags": ["a", "b"]}
    rows = [{"id": f"q{number}", "image": [cell] * number, **about} for number in (1, 5, 6)]
    pq.write_table(pa.Table.from_pylist(rows), folder := tmp_path_factory.mktemp("data") / "omni-bench_cleaned.parquet")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"))


def test_the_originals_command_and_its_file(data, checkpoint, tmp_path, capsys):
    words = ["--parquet_path", str(data), "--model_path", str(checkpoint), "--outfile", "preds.jsonl"]
    words += ["--mm_images_per_prompt", "5", "--output_dir", str(tmp_path), "--tp_size", "1"]
    assert main(["bench", *words, "--max_new_tokens", "24"]) == 2  # the row of six pictures fails
    lines = [json.loads(line) for line in (tmp_path / "preds.jsonl").read_text().splitlines()]
    assert not any("sample" in line for line in lines)
    assert [line["index"] for line in lines] == [0, 1, 2] and {line["dataset"] for line in lines} == {data.name}
    columns = {"question": "Which?", "answer": "1", "difficulty": 0.5, "tags": ["a", "b"], "_gt_answer": "1"}
    assert [line["raw"] for line in lines] == [{"id": name, "task": None, **columns} for name in ("q1", "q5", "q6")]
    assert isinstance(lines[1]["prediction"], str)
    assert lines[2]["prediction"] is None and "has 6 pictures" in lines[2]["error"]
    with AppendLog(tmp_path / RESULTS) as log:
        assert [len(row["question_images"]) for row in log.rows] == [1, 5, 0]
    capsys.readouterr()
    assert main(["bench", *words, "--max_new_tokens", "17", "--output_dir", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()
    assert "field 'max_new_tokens': 17 tokens cannot hold one image, which takes 18" in capsys.readouterr().err


def test_the_line_of_a_run(monkeypatch, tmp_path, capsys):
    figures = dict.fromkeys(MISSING, 0) | {"accuracy": 0.5, "interval": [0.25, 0.75], "failed": 1}
    for count, asked in ((1, "1 question of x, 1 failed"), (2, "2 questions of x, 1 failed")):
        summary = {"suite": "x", **{key: {"overall": figure} for key, figure in (figures | {"count": count}).items()}}
        monkeypatch.setattr(run, "run_bench", lambda options, summary=summary: (tmp_path, summary, 2))
        assert run.bench(BenchOptions(model_path="m")) == 2
        assert capsys.readouterr().out.startswith(f"accuracy 50.0% [25.0%, 75.0%] on {asked}; see ")


def test_several_samples_and_going_on(data, checkpoint, tmp_path, capsys):
    words = [
        "bench",
        "--data",
        str(data),
        "--model-path",
        str(checkpoint),
        "--output-dir",
        str(tmp_path),
        "--limit",
        "2",
    ]
    words += ["--limit", "2", "--max-new-tokens", "24", "--do-sample", "--num-samples", "3", "--seed", "5"]
    assert main(words) == 0
    before = (tmp_path / RESULTS).read_bytes()
    lines = before.splitlines(keepends=True)
    (tmp_path / RESULTS).write_bytes(b"".join(lines[:1] + lines[4:5]) + lines[2][:20])
    assert main(words) == 0 and (tmp_path / RESULTS).read_bytes() == before
    rows = [json.loads(line) for line in lines]
    assert [(row["id"], row["sample"], row["seed"]) for row in rows] == [
        (name, sample, seed + sample) for name, seed in (("q1", 5), ("q5", 8)) for sample in range(3)
    ]
    assert "2 answers are there already" in capsys.readouterr().err
    assert main([*words, "--outfile", "preds.jsonl"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "preds.jsonl").read_text().splitlines()]
    assert [(line["raw"]["id"], line["sample"], line["seed"]) for line in lines] == [
        (row["id"], row["sample"], row["seed"]) for row in rows
    ]


def bench(data, checkpoint, folder, *more: str) -> int:
    """Two questions, alone in their batches: what is computed together differs in the last digit."""
    words = ["--data", str(data), "--model-path", str(checkpoint), "--output-dir", str(folder), "--batch-size", "1"]
    return main(["bench", *words, "--max-new-tokens", "24", *more])


def left_in(folder, *but: str) -> dict[str, bytes]:
    """Its files, without what says when and how fast they were made."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    summary = json.loads(files.pop("summary.json"))
    files["figures"] = json.dumps({name: summary[name] for name in summary if name not in run.TIMING}).encode()
    return {name: content for name, content in files.items() if name not in ("run.json", *but)}


@pytest.fixture
def unasked(monkeypatch):
    """Whoever asks a model now fails."""

    def unasked() -> None:
        monkeypatch.setattr(run, "open_backend", lambda *_: pytest.fail("the model was loaded"))

    return unasked


def test_a_refused_continuation_leaves_the_finished_run(data, checkpoint, tmp_path, capsys, unasked):
    """And is refused before the model is loaded."""
    run_dir, other = tmp_path / "run", tmp_path / "other.parquet"
    assert bench(data, checkpoint, run_dir, "--limit", "2") == 0
    for name in ("report.html", "figures.md"):
        (run_dir / name).write_text("made of it")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    pq.write_table(pq.read_table(data).slice(1), other)
    capsys.readouterr()
    cases = [
        (["--limit", "2", "--mode", "text-only"], "field 'mode'"),
        (["--limit", "1"], "field 'limit': was 2"),
        (["--limit", "2", "--data", str(other)], "suite.json: field 'data': is not what the run"),
        (["--limit", "2", "--control-path", str(tmp_path / "absent")], "absent"),
    ]
    unasked()
    for more, told in cases:
        assert bench(data, checkpoint, run_dir, *more) == 2
        assert told in capsys.readouterr().err
        assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    (run_dir / "judge.jsonl").write_text("{}\n{}\n")
    assert bench(data, checkpoint, run_dir, "--limit", "2") == 2
    assert "judge.jsonl:1: damaged row" in capsys.readouterr().err and (run_dir / "report.html").exists()


def test_the_same_data_elsewhere_go_on(data, checkpoint, tmp_path, unasked):
    run_dir, moved = tmp_path / "run", tmp_path / "moved.parquet"
    assert bench(data, checkpoint, run_dir, "--limit", "1") == 0
    before = left_in(run_dir, "suite.json")
    moved.write_bytes(data.read_bytes())
    unasked()
    assert bench(moved, checkpoint, run_dir, "--limit", "1") == 0
    assert left_in(run_dir, "suite.json") == before
    assert json.loads((run_dir / "suite.json").read_text())["files"].keys() == {"moved.parquet"}


def test_kept_answers_are_graded_anew(data, checkpoint, tmp_path, unasked):
    """By another profile, without asking the model: the files are those of a run that asked so from the start."""
    control = ["--limit", "2", "--control-path", f"{checkpoint}/"]
    asked, changed = tmp_path / "asked", tmp_path / "changed"
    assert bench(data, checkpoint, asked, *control, "--profile", "number") == 0
    assert bench(data, checkpoint, changed, *control) == 0
    assert left_in(asked) != left_in(changed)
    unasked()
    assert bench(data, checkpoint, changed, *control, "--profile", "number") == 0
    assert left_in(asked) == left_in(changed)


def test_more_questions_and_a_control_may_be_asked_later(data, checkpoint, tmp_path, capsys):
    control = ["--control-path", f"{checkpoint}/"]
    asked, grown = tmp_path / "asked", tmp_path / "grown"
    assert bench(data, checkpoint, asked, "--limit", "2", *control) == 0
    assert bench(data, checkpoint, grown, "--limit", "1") == 0
    assert bench(data, checkpoint, grown, "--limit", "2", *control) == 0
    assert "1 answers are there already" in capsys.readouterr().err
    assert left_in(asked) == left_in(grown)
    assert bench(data, checkpoint, grown, "--limit", "2") == 2
    assert "field 'control_path': was" in capsys.readouterr().err


def test_a_control_that_is_gone_is_told_where_it_is_needed(data, checkpoint, tmp_path, capsys):
    control, folder = tmp_path / "control", tmp_path / "out"
    words = ["--limit", "2", "--control-path", str(control)]
    assert bench(data, checkpoint, folder, *words) == 2
    assert "no such" in capsys.readouterr().err and not folder.exists()
    shutil.copytree(checkpoint, control)
    assert bench(data, checkpoint, folder, *words) == 0
    shutil.rmtree(control)
    assert bench(data, checkpoint, folder, *words) == 0  # it has answered all


def test_swapped_pictures_hang_on_the_number_of_questions(tmp_path):
    options = BenchOptions("m", output_dir=str(tmp_path), swap_pictures=True, limit=2)
    (tmp_path / "run.json").write_text(json.dumps({"options": asdict(options)}))
    (tmp_path / RESULTS).touch()
    folder_of(options)
    with pytest.raises(InputError, match="field 'limit': was 2"):
        folder_of(replace(options, limit=3))


def test_the_control_is_asked_again_where_it_failed(tmp_path, monkeypatch):
    """With --retry-errors alone, and then on no other question."""
    asked: list[list[str]] = []

    def answers(omni, backend, tasks, options, label):
        asked.append([task.question.id for task in tasks])
        for task in tasks:
            error = "out of memory" if len(asked) == 1 and task.question.id == "b" else None
            yield Answered(task, 0, Completion([], 0, error=error), [])

    monkeypatch.setattr(run, "answers", answers)
    monkeypatch.setattr(run, "TransformersBackend", lambda *_: None)
    suite = Suite("s", [Item(name, gold="1", row=row) for row, name in enumerate("abc", 1)])
    for retry, errors in ((False, 1), (False, 1), (True, 0)):
        options = BenchOptions("m", control_path="c", retry_errors=retry)
        verdicts = run.control_answers(SimpleNamespace(path=tmp_path), suite, options, "omni")
        assert sorted(verdicts) == ["a", "b", "c"] and sum(bool(one["error"]) for one in verdicts.values()) == errors
    assert asked == [["a", "b", "c"], ["b"]]


def test_the_budget_counts_the_begin_that_is_given():
    vocabulary = SimpleNamespace(image_length=16)
    room_for_an_image(vocabulary, SamplingOptions(max_new_tokens=17), begun=True)
