"""`omni-r1 generate` and `bench` end to end on a tiny checkpoint: what goes in, what comes out, what is refused."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from omni_r1.bench.suites import load_suite, swap_pictures
from omni_r1.cli import main
from omni_r1.errors import InputError
from omni_r1.files import AppendLog
from omni_r1.model import load
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("runner"))


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(out, "PNG")
    return out.getvalue()


def huge_header() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


# What is wrong with a row, its `images` entry, and words of the error.
BAD_PICTURES = [
    ("missing.png", None, "No such file"),
    ("cut.png", png("red")[:60], "damaged image"),
    ("huge.png", huge_header(), "2500000000 pixels"),
    ("text.png", b"not a picture at all", "is no image"),
    ("../outside.png", None, "leaves the data root"),
]


def rows_of(folder: Path) -> list[dict]:
    [file] = [*folder.glob("results.jsonl"), *folder.glob("rows/decoded_results.jsonl")]
    with AppendLog(file) as log:
        return log.rows


@pytest.fixture(scope="module")
def run(checkpoint, tmp_path_factory):
    """One run over good and bad rows: (exit code, records, stderr, input file)."""
    folder = tmp_path_factory.mktemp("input")
    (folder / "red.png").write_bytes(png("red"))
    (folder.parent / "outside.png").write_bytes(png("blue"))
    rows = [{"id": "good", "prompt": "What is <image>?", "images": ["red.png"]}]
    for name, content, _ in BAD_PICTURES:
        if content is not None:
            (folder / name).write_bytes(content)
        rows.append({"id": name, "prompt": "What is <image>?", "images": [name]})
    lines = [json.dumps(row) for row in rows]
    lines.insert(3, '{"id": "broken", ')
    lines += [
        json.dumps({"id": "good", "prompt": "twice"}),
        json.dumps({"id": "marks", "prompt": "<image> <image>", "images": ["red.png"]}),
        json.dumps({"id": "no prompt"}),
        json.dumps({"id": "typo", "prompt": "What is it?", "image": ["red.png"]}),
        json.dumps({"id": "last", "prompt": "text only"}),
    ]
    source = folder / "rows.jsonl"
    source.write_text("\n".join(lines) + "\n")
    stderr = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stderr)
        words = ["--input", str(source), "--model-path", str(checkpoint), "--output-dir", str(folder / "out")]
        code = main(["generate", *words, "--max-new-tokens", "24"])
    return code, rows_of(folder / "out"), stderr.getvalue(), source


def test_bad_rows_fail_by_name_and_the_others_finish(run):
    code, records, stderr, source = run
    assert code == 2
    by_id = {record["id"]: record for record in records}
    assert len(records) == 12
    assert [record["status"] for record in records].count("ok") == 2
    assert records[0]["tokens"] > 0 and by_id["last"]["tokens"] > 0
    errors = [line for line in stderr.splitlines() if line.startswith("omni-r1: error:")]
    assert len(errors) == 10
    for (name, _, words), row in zip(BAD_PICTURES, (2, 3, 5, 6, 7), strict=True):
        line = next(line for line in errors if f"rows.jsonl:{row}:" in line)
        assert "field 'images'" in line and name in line and words in line
        assert by_id[name]["status"] == "error" and by_id[name]["segments"] == []
    for row, words in (
        (4, "malformed JSON"),
        (8, "is the id of row 1"),
        (9, "marks for"),
        (10, "field 'prompt'"),
        (11, "field 'image'"),
    ):
        assert any(f"{source}:{row}:" in line and words in line for line in errors), (row, errors)


def test_a_run_describes_itself(run):
    folder = run[3].parent / "out" / "rows"
    record = json.loads((folder / "run.json").read_text())
    assert record["options"]["max_new_tokens"] == 24
    assert {"seed", "versions", "commit", "python", "started"} <= record.keys()
    assert json.loads((folder / "summary.json").read_text())["rows"] == 12
    good = run[1][0]
    assert all((folder / path).is_file() for path in good["question_images"])
    assert main(["report", "--run-dir", str(folder)]) == 0
    assert (folder / "report.html").stat().st_size > 1000


def test_a_rerun_replaces_and_repeats(run, checkpoint):
    source = run[3]
    words = ["--input", str(source), "--model-path", str(checkpoint), "--output-dir", str(source.parent / "out")]
    assert main(["generate", *words, "--max-new-tokens", "24"]) == 2
    assert rows_of(source.parent / "out") == run[1]


@pytest.mark.parametrize("damage", ["decoder", "pickle", "option", "input"])
def test_what_cannot_start_is_one_clear_line(damage, checkpoint, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    source = tmp_path / "rows.jsonl"
    source.write_text('{"prompt": "hello"}\n')
    words = ["--input", str(source), "--model-path", str(broken), "--output-dir", str(tmp_path / "out")]
    expected = {
        "decoder": ("cannot draw images", str(broken)),
        "pickle": ("pickled weights", "pytorch_model.bin"),
        "option": ("--max-new-token", "--max-new-tokens"),
        "input": ("No such file", "nothing.jsonl"),
    }[damage]
    if damage == "decoder":
        weights = load_file(broken / "model.safetensors")
        kept = {name: tensor for name, tensor in weights.items() if ".decoder." not in name}
        save_file(kept, broken / "model.safetensors", metadata={"format": "pt"})
    elif damage == "pickle":
        (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    elif damage == "option":
        words += ["--max-new-token", "3"]
    else:
        words[1] = str(tmp_path / "nothing.jsonl")
    assert main(["generate", *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("omni-r1: error:")]
    assert len(errors) == 1 and all(word in errors[0] for word in expected)


def write_bench(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_bench_grades_and_counts_failures(checkpoint, tmp_path):
    picture = base64.b64encode(png("green")).decode()
    rows = [
        {"id": "a", "task": "x", "question": "What <image>?", "image": picture, "answer": "red"},
        {"id": "b", "task": "x", "question": "What <image>?", "image": "%%%", "answer": "red"},
        {"id": "c", "task": "y", "question": " ", "image": picture, "answer": "1"},
        {"id": "d", "task": "y", "question": "What <image>?", "image": picture, "answer": None},
        {"id": "e", "task": "y", "question": "<image> <image>?", "image": picture, "answer": "1"},
        {"id": "f", "task": "y", "question": "What?", "image": picture[:40], "answer": "1"},
    ]
    data = write_bench(tmp_path / "bench.parquet", rows)
    words = ["--model-path", str(checkpoint), "--data", str(data), "--output-dir", str(tmp_path / "out")]
    assert main(["bench", *words, "--max-new-tokens", "24"]) == 2
    records = rows_of(tmp_path / "out")
    assert [record["status"] for record in records] == ["ok", *["error"] * 5]
    assert "bench.parquet:2: field 'image'" in records[1]["error"]
    assert "bench.parquet:3: field 'question'" in records[2]["error"]
    assert "bench.parquet:4: field 'answer'" in records[3]["error"]
    assert "bench.parquet:5: field 'question': 2 <image> marks for 1 image" in records[4]["error"]
    assert "bench.parquet:6: field 'image': is" in records[5]["error"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["failed"] == {"overall": 5, "x": 1, "y": 4}
    assert summary["constant"] == {"overall": 1 / 6, "x": 1 / 2, "y": 0.0} and summary["count"]["overall"] == 6
    assert summary["step_accuracy"]["overall"] is None  # nobody judged a drawing
    assert 0 <= summary["interval"]["overall"][0] <= summary["accuracy"]["overall"] <= summary["interval"]["overall"][1]


def test_swapped_pictures_come_from_the_same_task(tmp_path):
    rows = [
        {
            "id": str(k),
            "task": "xy"[k % 2],
            "question": f"{k}",
            "image": base64.b64encode(png(colour)).decode(),
            "answer": "a",
        }
        for k, colour in enumerate(("red", "green", "blue", "white", "black", "gray"))
    ]
    questions = load_suite(str(write_bench(tmp_path / "bench.parquet", rows))).questions
    swapped = swap_pictures(questions)
    assert [question.text for question in swapped] == [question.text for question in questions]
    came_from = [next(k for k, q in enumerate(questions) if q.images is one.images) for one in swapped]
    assert came_from == [2, 3, 4, 5, 0, 1]
    with pytest.raises(InputError, match="no two questions of a task have as many pictures"):
        swap_pictures(questions[:2])


def test_pictures_are_swapped_for_as_many(tmp_path):
    """The marks of a question stay: it cannot take two pictures for one, or none."""
    picture = base64.b64encode(png("red")).decode()
    cells = [[picture], [picture] * 2, [], [picture], [picture] * 2, ["<TLTS>"], [picture] * 3, ["%%%"]]
    rows = [{"question": "Is <image>?" * (k != 2), "image": cell, "answer": "1"} for k, cell in enumerate(cells)]
    rows[2]["question"] = "Is it?"
    questions = load_suite(str(write_bench(tmp_path / "bench.parquet", rows))).questions
    swapped = swap_pictures(questions)
    came_from = [next(k for k, q in enumerate(questions) if q.images is one.images) for one in swapped]
    assert came_from == [3, 4, 2, 0, 1, 5, 6, 7]
    assert all(len(one.images) == len(other.images) for one, other in zip(questions, swapped, strict=True))


def test_a_control_that_fails_is_told(checkpoint, tmp_path, capsys):
    omni = load(checkpoint)
    omni.model.lm_head.weight.data[0] = float("nan")
    omni.save(tmp_path / "nan")
    row = {"task": "x", "question": "What <image>?", "image": base64.b64encode(png("red")).decode(), "answer": "red"}
    data = write_bench(tmp_path / "bench.parquet", [row])
    words = ["--model-path", str(checkpoint), "--data", str(data), "--output-dir", str(tmp_path / "out")]
    assert main(["bench", *words, "--control-path", str(tmp_path / "nan"), "--max-new-tokens", "24"]) == 2
    assert "the control failed on 1 questions" in capsys.readouterr().err
    assert "not finite" in rows_of(tmp_path / "out")[0]["control"]["error"]


def test_a_folder_that_cannot_be_written(checkpoint, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    (tmp_path / "file").write_text("")
    words = ["--input", str(tmp_path / "rows.jsonl"), "--model-path", str(checkpoint)]
    assert main(["generate", *words, "--output-dir", str(tmp_path / "file")]) == 2
    assert "field 'output_dir': cannot be written" in capsys.readouterr().err


def test_missing_column_is_named(tmp_path, checkpoint, capsys):
    data = write_bench(tmp_path / "bench.parquet", [{"question": "x", "image": ""}])
    words = ["--model-path", str(checkpoint), "--data", str(data), "--output-dir", str(tmp_path / "out")]
    assert main(["bench", *words]) == 2
    assert "field 'answer': column is missing" in capsys.readouterr().err


def test_a_row_beyond_the_models_positions_is_told(tmp_path, capsys):
    """A published checkpoint says 4096 and is used up to 12,000: no error, but worth a line."""
    path = write_checkpoint(tmp_path / "model", max_position_embeddings=16)
    for name, text in (("short", "a"), ("long", "what is it? " * 4)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": text}) + "\n")
        words = ["--input", str(tmp_path / f"{name}.jsonl"), "--model-path", str(path)]
        assert main(["generate", *words, "--output-dir", str(tmp_path / "out"), "--max-new-tokens", "4"]) == 0
        told = "long.jsonl: a row has" in (err := capsys.readouterr().err) and "max_position_embeddings is 16" in err
        assert told == (name == "long")
