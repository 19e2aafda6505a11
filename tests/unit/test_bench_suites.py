"""Each suite reads its published form; each quirk of Omni-Bench's parquet is asked or refused by name."""

import base64
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from omni_r1.bench.beginning import within
from omni_r1.bench.profiles import judged_by
from omni_r1.bench.suites import SUITES, load_suite
from omni_r1.bench.suites import files as suite_files
from omni_r1.bench.suites.sources import known_source
from omni_r1.bench.tasks import utils
from omni_r1.errors import InputError
from omni_r1.generate.backend import SamplingOptions, room_for_an_image
from omni_r1.generate.questions import open_source
from omni_r1.options import BenchOptions
from omni_r1.trajectory import IMAGE_MARK
from suite_rows import b64, parquet, png, write_lines


def colours(item) -> list[tuple[int, ...]]:
    return [open_source(source, item.where).getpixel((0, 0)) for source in item.images]


CHOICE = {"question_type": "multi_choice", "answer_type": "text"}
GREEN, RED = (0, 128, 0), (255, 0, 0)


def test_every_quirk_of_omni_bench(tmp_path):
    """(question, image) to the text that is asked and its pictures, or the words of the error."""
    small = b64(size=1)
    assert len(small) < 256
    lined = "\n".join(b64()[at : at + 60] for at in range(0, len(b64()), 60))
    texts = {
        "one": ("What <image>?", b64(), "What <image>?", [GREEN]),
        "small": ("What <image>?", small, "What <image>?", [GREEN]),
        "uri": ("What <image>?", f"data:image/png;base64,{b64('red')}", "What <image>?", [RED]),
        "lined": ("What?", lined, "What?", [GREEN]),
        "removed": ("What <image>?", "<TLTS>", "What ?", []),
        "no base64": ("What?", "%%%", "field 'image': is no base64", None),
        "null": ("What?", None, "field 'image': is missing", None),
        "blank": ("  ", b64(), "field 'question': is empty", None),
        "no question": (None, b64(), "field 'question': is missing", None),
        "no answer": ("What?", b64(), "field 'answer': is missing", None),
        "blank answer": ("What?", b64(), "field 'answer': is missing", None),
    }
    golds = {"no answer": None, "blank answer": " "}
    lists = {
        "all": ("<image> or <image>?", [b64(), b64("red")], "<image> or <image>?", [GREEN, RED]),
        "behind": ("Is <image> right?", [b64(), b64("red")], "Is <image> right? <image>", [GREEN, RED]),
        "in front": ("Which?", [b64(), b64("red")], "Which?", [GREEN, RED]),
        "none": ("Which <image>?", [], "field 'image': is missing: the list is empty", None),
        "all removed": ("<image><image> Which?", ["<TLTS>", "<TLTS>"], "Which?", []),
        "null in a list": ("Which?", [b64(), None], "field 'image': picture 2 of 2 is missing", None),
        "some removed": ("Which?", [b64(), "<TLTS>"], "field 'image': picture 2 of 2 is <TLTS>: only all", None),
    }
    binary = {
        "bytes": ("Which <image>?", png(), "Which <image>?", [GREEN]),
    }
    structs = {
        "nothing": ("Which?", {"bytes": None, "path": None}, "field 'image': is missing", None),
        "struct": ("Which?", {"bytes": png(), "path": "/etc/passwd"}, "Which?", [GREEN]),
        "no file": (
            "Which?",
            {"bytes": None, "path": "../../x.png"},
            "field 'image': '../../x.png' leaves the data root",
            None,
        ),
    }
    numbers = {"number": ("Which?", 7, "field 'image': must be base64, bytes or a path", None)}
    kinds = {"texts": texts, "lists": lists, "binary": binary, "structs": structs, "numbers": numbers}
    for name, cases in kinds.items():
        rows = [
            {"id": key, "question": case[0], "image": case[1], "answer": golds.get(key, "x")}
            for key, case in cases.items()
        ]
        items = load_suite(str(parquet(tmp_path / f"{name}.parquet", rows))).questions
        assert [item.id for item in items] == [*cases]
        for item, (_, _, told, pictures) in zip(items, cases.values(), strict=True):
            if pictures is None:
                assert told in str(item.error) and f"{name}.parquet:{item.row}: " in str(item.error)
            else:
                assert (item.error, item.text, colours(item)) == (None, told, pictures)
                assert item.text.count(IMAGE_MARK) in (0, len(pictures))


def test_a_gold_answer_that_is_no_number_is_none(tmp_path):
    """As pandas writes a cell without a value: a row of it could never be right."""
    columns = {"floats": [1.5, math.nan, None], "times": pa.array([0, None, None], pa.timestamp("s"))}
    for name, golds in columns.items():
        rows = {"question": ["q"] * 3, "image": ["<TLTS>"] * 3, "answer": golds}
        pq.write_table(pa.table(rows), path := tmp_path / f"{name}.parquet")
        good, *empty = load_suite(str(path)).questions
        assert good.gold and all("field 'answer': is missing" in str(item.error) for item in empty)
    path = tmp_path / "a.jsonl"
    path.write_text('{"query": "q", "label": [NaN], "image": "<TLTS>"}\n')
    assert "field 'label': is missing" in str(load_suite(str(path), "chartqa").questions[0].error)


def test_an_id_that_is_taken_is_told(tmp_path, capsys):
    row = {"question": "q", "image": "<TLTS>", "answer": "1"}
    rows = [row | {"id": name} for name in ("a", "b", "a", "a")] + [row | {"id": "b", "image": "%%%"}]
    found = load_suite(str(path := parquet(tmp_path / "a.parquet", rows))).questions
    assert [item.id for item in found] == ["a", "b", "row 3", "row 4", "row 5"]
    told = "3 rows called by their number, as their id is taken: 'a' is the id of row 1 already"
    assert f"omni-r1: warning: {path}: {told}\n" in capsys.readouterr().err


def test_cut_base64_is_no_picture(tmp_path):
    noisy = Image.effect_noise((64, 64), 90)
    out = io.BytesIO()
    noisy.save(out, "PNG")
    cut = base64.b64encode(out.getvalue()[:999]).decode()
    [item] = load_suite(
        str(parquet(tmp_path / "a.parquet", [{"question": "x", "image": cut, "answer": "1"}]))
    ).questions
    with pytest.raises(InputError, match="damaged image"):
        open_source(item.images[0], item.where)


def test_sources_and_tasks_by_column_and_by_id(tmp_path):
    rows = [
        {"id": "vstar_1", "question": "q", "image": "<TLTS>", "answer": "A"},
        {"id": "ChartQA-7", "question": "q", "image": "<TLTS>", "answer": "7"},
        {"id": "geo3k/2", "question": "q", "image": "<TLTS>", "answer": "2\\sqrt{3}"},
        {"id": "Geometry3K_3", "question": "q", "image": "<TLTS>", "answer": "C"},
        {"id": "vic-bench-1", "question": "q", "image": "<TLTS>", "answer": "up, left"},
        {"id": "vic-bench-2", "question": "q", "image": "<TLTS>", "answer": "3→1→2"},
        {"id": "vic-bench-3", "question": "q", "image": "<TLTS>", "answer": "4"},
        {"id": "9", "question": "q", "image": "<TLTS>", "answer": "9"},
    ]
    found = load_suite(str(parquet(tmp_path / "a.parquet", rows))).questions
    assert [(item.source, item.task, item.profile) for item in found] == [
        ("vstar", "natural", "choice"),
        ("chartqa", "structured", "relaxed"),
        ("geometry3k", "diagrammatic", "number"),
        ("geometry3k", "diagrammatic", "choice"),
        ("vicbench", "vision-operational", "sequence"),
        ("vicbench", "vision-operational", "sequence"),
        ("vicbench", "vision-operational", "number"),
        (None, None, "strict"),
    ]
    named = [row | {"from": "MathVista"} for row in rows]
    path = str(parquet(tmp_path / "b.parquet", named))
    assert {item.source for item in load_suite(path, source_column="from").questions} == {"mathvista"}
    with pytest.raises(InputError, match="field 'absent': column is missing"):
        load_suite(path, source_column="absent")
    assert (known_source("V*"), known_source("vic"), known_source("other")) == ("vstar", "vicbench", None)


def test_rows_that_cannot_be_read_count_where_they_belong(tmp_path):
    """Under their Uni-Task and source, which would have a question less for them, and by the profile of these."""
    row = {"question": "q", "image": "%%%", "answer": "A", "from": "V*", "dataset": None, "task": None}
    rows = [row | {"id": name} for name in ("vstar_1", "geo3k/2", "9")]
    rows += [row | {"id": "vic-bench-1", "question": " "}, row | {"id": "m", "dataset": "MathVista", "task": "overall"}]
    rows += [row | {"id": "chartqa_1", "answer": None}]
    path = str(parquet(tmp_path / "a.parquet", rows))
    found = load_suite(path).questions
    assert all(item.error for item in found) and [item.text for item in found[:3]] == ["q"] * 3
    blank = load_suite(str(parquet(tmp_path / "blank.parquet", [row | {"answer": " ", "task": ""}]))).questions[0]
    assert (blank.gold, blank.task) == (None, None) and blank.error
    assert [(item.source, item.task, item.profile) for item in found] == [
        ("vstar", "natural", "choice"),
        ("geometry3k", "diagrammatic", "choice"),
        (None, None, "strict"),
        ("vicbench", "vision-operational", "number"),
        ("mathvista", "diagrammatic", "choice"),
        ("chartqa", "structured", "relaxed"),
    ]
    assert {item.source for item in load_suite(path, source_column="from").questions} == {"vstar"}


def test_an_error_names_the_column_that_it_is_about(tmp_path):
    """Where columns have other names: those of pictures, which are opened when their turn comes, and of options."""
    many = [*"abcdefghijkl"]
    rows = {
        "omni-bench": ({"question": "q", "image": b64(), "answer": "1"}, "question", "image"),
        "vstar": ({"text": "q", "image": b64(), "label": "A"}, "text", "image"),
        "chartqa": ({"query": "q", "imgname": "absent.png", "label": "1"}, "query", "imgname"),
        "geometry3k": ({"problem": "q", "image": [b64()], "answer": "1"}, "problem", "image"),
        "mathvista": ({"question": "q", "decoded_image": b64(), "answer": "1", "answer_type": "text"}, "question",
                      "decoded_image"),
        "vic-bench": ({"prompt": "q", "img": b64(), "gt": "1"}, "prompt", "img"),
    }  # fmt: skip
    for name, (row, text, images) in rows.items():
        path = write_lines(tmp_path / name / "a_stage1.jsonl", [row]) if name != "omni-bench" else parquet(
            tmp_path / "a.parquet", [row]
        )  # fmt: skip
        [item] = load_suite(str(path), name).questions
        assert item.error is None and (item.text_field, item.images_field) == (text, images)
        assert f"field '{images}'" in str(within(item, 0).error)
    row = {"problem": "q", "images": b64(), "answer": "A", "choices": many}
    [item] = load_suite(str(write_lines(tmp_path / "g.jsonl", [row])), "geometry3k").questions
    assert "field 'choices': has 12 options, more than 10" in str(item.error)
    row = {"question": "q", "image": b64(), "answer": "a", "answer_type": "text", "choices": many} | CHOICE
    [item] = load_suite(str(write_lines(tmp_path / "m.jsonl", [row])), "mathvista").questions
    assert "field 'choices': has 12 options, more than 10" in str(item.error)


def test_rows_that_cannot_be_read_of_every_other_suite(tmp_path):
    rows = {
        "vstar": ({"text": " ", "category": "relative_position"}, "relative_position", "choice"),
        "arxivqa": ({"question": "q"}, None, "choice"),
        "chartqa": ({"query": "q", "type": "human_test"}, "human", "relaxed"),
        "geometry3k": ({"problem": "q"}, None, "number"),
        "mathvista": ({"question": "q", "metadata": {"task": "figure question answering"}}, "figure question answering",
                      "mathvista"),
        "vic-bench": ({"question": "q"}, "counting", "number"),
    }  # fmt: skip
    for name, (row, task, profile) in rows.items():
        path = write_lines(tmp_path / name / "vicbench__counting_stage1.jsonl", [row])
        path.write_text(path.read_text() + "no row\n")
        bad, worse = load_suite(str(path), name).questions
        assert bad.error and (bad.source, bad.task, bad.profile) == (known_source(name), task, profile)
        assert worse.error and worse.source == known_source(name)


def test_what_lmms_eval_calls(tmp_path):
    """A row that cannot be read asks nothing, and is wrong and failed; a trace and an answer alone are graded alike."""
    good = {"id": "vstar_1", "question": "Which?", "image": b64(), "answer": "B", "options": ["red", "blue"]}
    assert utils.question(good) == "Which?" and len(utils.pictures(good)) == 1
    counted = {"accuracy": 1.0, "failed": 0.0, "no_answer": 0.0, "unparsed": 0.0, "natural": 1.0}
    for said in ("Look.\n<image_1>\nFinal Answer: B", "B", "(b)\n"):
        assert utils.results(good, [said]) == counted
    for said in ("", "Look.\nIt is blue", " "):
        assert utils.results(good, [said]) == counted | {"accuracy": 0.0, "no_answer": 1.0, "natural": 0.0}
    damaged = base64.b64encode(png()[:50]).decode()
    for change in ({"image": "%%%"}, {"image": damaged}, {"question": None}, {"answer": None}):
        bad = good | change
        assert utils.question(bad) == "" and utils.pictures(bad) == []
        assert utils.results(bad, ["B"]) == counted | {"accuracy": 0.0, "failed": 1.0, "natural": 0.0}
    told = (Path(utils.__file__).parent / "omni_bench.yaml").read_text()
    assert all(f"metric: {name}\n" in told for name in counted)


def test_choices_and_mathvista_types_of_omni_bench(tmp_path):
    """From columns where a row has them, else from the question's text and the gold answer."""
    written = "How much?\n(A) 1°\n(B) 145°"
    plain = [
        ("vstar_1", written, "B"), ("mathvista_1", written, "145°"), ("mathvista_2", "How much?", "1.25"),
        ("mathvista_3", "How many?", "-4"), ("mathvista_4", "Which?", "[1, 2]"), ("mathvista_5", "Who?", "Ann"),
        ("chartqa_1", written, "145°"),
    ]  # fmt: skip
    rows = [{"id": name, "question": asked, "image": "<TLTS>", "answer": gold} for name, asked, gold in plain]
    found = load_suite(str(parquet(tmp_path / "a.parquet", rows))).questions
    choices = ["1°", "145°"]
    assert [item.options for item in found] == [choices, choices, None, None, None, None, None]
    assert [(item.kind, item.precision) for item in found[2:6]] == [
        ("float", 2), ("integer", None), ("list", None), (None, None),
    ]  # fmt: skip
    assert judged_by(found[1].profile, "(B)", found[1]).correct and not judged_by("mathvista", "A", found[1]).correct
    assert judged_by(found[2].profile, "1.254", found[2]).correct
    row = {"question": "How much?", "image": "<TLTS>", "choices": [], "answer_type": None, "precision": None}
    schema = pa.schema(
        dict.fromkeys(("id", "question", "image", "answer", "answer_type"), pa.string())
        | {"precision": pa.float64(), "choices": pa.list_(pa.string())}
    )
    rows = [
        row | {"id": "mathvista_1", "answer": "1.20", "answer_type": "float", "precision": 1.0},
        row | {"id": "mathvista_2", "answer": "12", "answer_type": "text", "precision": math.nan},
        row | {"id": "mathvista_3", "answer": "145°", "choices": choices},
        row | {"id": "mathvista_4", "answer": "1", "answer_type": "number"},
        row | {"id": "mathvista_5", "answer": "1", "precision": -1.0},
    ]
    *good, wrong, negative = load_suite(str(parquet(tmp_path / "b.parquet", rows, schema))).questions
    assert [(item.kind, item.precision) for item in good[:2]] == [("float", 1), ("text", None)]
    assert good[2].options == choices
    assert "'answer_type': must be one of" in str(wrong.error) and "'precision': must be a" in str(negative.error)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png())


def test_vstar(tmp_path):
    picture(tmp_path / "direct_attributes" / "1.jpg")
    text = "What colour is the kite?\n(A) red\n(B) green\nGive the letter."
    row = {"image": "direct_attributes/1.jpg", "text": text, "category": "direct_attributes", "question_id": "3"}
    write_lines(tmp_path / "test_questions.jsonl", [row | {"label": "B"}, row | {"label": "D"}])
    good, bad = load_suite(str(tmp_path), "vstar").questions
    assert (good.id, good.task, good.gold, good.profile) == ("direct_attributes-3", "direct_attributes", "B", "choice")
    assert good.options == ["red", "green"] and colours(good) == [GREEN]
    assert "test_questions.jsonl:2: field 'label': 'D' is none of the choices" in str(bad.error)


def test_arxivqa(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    row = {"image": "images/a.jpg", "question": "Which?"}
    forms = [
        ("1", ["A) one", "B) two"], "B"),
        ("2", ["one", "two"], "B)"),
        ("3", ["(A) one", "(B) two"], "B. two"),
        ("4", ["A", "B"], "B"),
        ("5", ["one", "two"], "two"),
        ("6", ["one", "two"], "three"),
    ]
    write_lines(
        tmp_path / "arxivqa.jsonl",
        [row | {"id": name, "options": options, "label": label} for name, options, label in forms],
    )
    items = load_suite(str(tmp_path / "arxivqa.jsonl"), "arxivqa").questions
    assert [item.gold for item in items if item.error is None] == ["B"] * 5
    assert items[0].text == "Which?\n(A) one\n(B) two" and items[0].options == ["one", "two"]
    assert "'three' is none of the choices" in str(items[5].error)


def test_chartqa(tmp_path):
    folder = tmp_path / "hub" / "data"
    image = {"bytes": png(), "path": None}
    rows = [{"image": image, "query": "How many?", "label": ["14"], "human_or_machine": 0}]
    parquet(folder / "test-00000-of-00001.parquet", rows)
    parquet(folder / "train-00000-of-00001.parquet", rows * 2)
    [item] = load_suite(str(folder.parent), "chartqa").questions  # the split `test` alone
    assert (item.text, item.gold, item.task, item.profile) == ("How many?", "14", "human", "relaxed")
    rows = [{"image": image, "type": "augmented_test", "question": "How many?", "answer": "14"}]
    [item] = load_suite(str(parquet(tmp_path / "lab.parquet", rows)), "chartqa").questions
    assert (item.gold, item.task, colours(item)) == ("14", "augmented", [GREEN])
    picture(tmp_path / "old" / "png" / "1.png")
    (tmp_path / "old" / "test_human.json").write_text(json.dumps([{"imgname": "1.png", "query": "q", "label": "7"}]))
    [item] = load_suite(str(tmp_path / "old" / "test_human.json"), "chartqa").questions
    assert (item.gold, colours(item)) == ("7", [GREEN])


def test_geometry3k(tmp_path):
    images = [{"bytes": png(), "path": None}]
    rows = [
        {"images": images, "problem": "<image>Find x.", "answer": "2 \\sqrt { 221 }", "choices": ["1", "2"]},
        {"images": images, "problem": "<image>Find x.", "answer": "B", "choices": ["1", "2"]},
        {"images": [], "problem": "<image>Find x.", "answer": "B", "choices": ["1", "2"]},
    ]
    free, choice, bare = load_suite(str(parquet(tmp_path / "test.parquet", rows)), "geometry3k").questions
    assert (free.text, free.profile, free.options) == ("<image>Find x.", "number", None)
    assert (choice.text, choice.gold, choice.profile) == ("<image>Find x.\n(A) 1\n(B) 2", "B", "choice")
    assert "field 'images': is missing: the list is empty" in str(bare.error)


def test_mathvista(tmp_path):
    row = {"decoded_image": {"bytes": png(), "path": None}, "image": "images/1.jpg", "question": "How much?"}
    row |= {"unit": None, "precision": None, "choices": None, "metadata": {"task": "geometry problem solving"}}
    schema = pa.schema(
        {"pid": pa.string(), "decoded_image": pa.struct({"bytes": pa.binary(), "path": pa.string()})}
        | dict.fromkeys(("image", "question", "query", "unit", "answer", "question_type", "answer_type"), pa.string())
        | {"precision": pa.float64(), "choices": pa.list_(pa.string())}
        | {"metadata": pa.struct({"task": pa.string()})}
    )
    asked = "Hint: Please provide the letter.\nQuestion: How much?\nChoices:\n(A) 1°\n(B) 145°"
    rows = [
        {
            "pid": "1",
            "answer": "145°",
            **CHOICE,
            "choices": ["1°", "145°"],
        },
        {"pid": "2", "answer": "1.2", "question_type": "free_form", "answer_type": "float", "precision": 1.0},
        {"pid": "3", "answer": "4", "question_type": "free_form", "answer_type": "integer", "unit": "years"},
        {"pid": "4", "answer": "", "question_type": "free_form", "answer_type": "integer"},
        {"pid": "5", "answer": "3", **CHOICE, "choices": ["1", "2"]},
        {"pid": "6", "answer": "B", **CHOICE, "choices": ["B", "A"]},
        {"pid": "7", "answer": "1°", **CHOICE, "choices": ["1°", "145°"], "query": asked, "unit": "degrees"},
        {"pid": "8", "answer": "4", "question_type": "free_form", "answer_type": "integer", "query": " "},
    ]
    path = parquet(tmp_path / "testmini-00000-of-00001.parquet", [row | each for each in rows], schema)
    choice, real, whole, hidden, lost, letters, hinted, blank = load_suite(str(path), "mathvista").questions
    assert (choice.id, choice.gold, choice.options, choice.task) == (
        "1", "B", ["1°", "145°"], "geometry problem solving",
    )  # fmt: skip
    assert judged_by("mathvista", "145°", choice).correct and letters.gold == "A"
    assert [judged_by("mathvista", said, letters).correct for said in ("(A)", "(B)")] == [True, False]
    assert (real.kind, real.precision, whole.text) == ("float", 1, "How much? (Unit: years)")
    assert choice.text == "How much?\n(A) 1°\n(B) 145°" and blank.text == "How much?"
    assert (hinted.text, hinted.gold, hinted.options) == (asked, "A", ["1°", "145°"])  # as it is published, and once
    assert "field 'answer': is hidden" in str(hidden.error) and "none of the choices" in str(lost.error)


def test_vic_bench(tmp_path):
    picture(tmp_path / "images" / "m.png")
    picture(tmp_path / "images" / "n.png")
    folder = tmp_path / "json"
    folder.mkdir()
    maze = {"image": "images/m.png", "question": "Which way?", "answer": ["up", "left"]}
    count = {"images": ["images/m.png", "images/n.png"], "query": "How many?", "gt_answer": 4}
    (folder / "vicbench__maze_stage1.json").write_text(json.dumps([maze, {"image": "images/m.png"}]))
    (folder / "vicbench__counting_stage1.json").write_text(json.dumps({"data": [count]}))
    (folder / "vicbench__maze_stage2.json").write_text("[]")
    counting, first, bad = load_suite(str(tmp_path), "vic-bench").questions
    assert (counting.task, counting.profile, counting.gold, len(counting.images)) == ("counting", "number", "4", 2)
    assert (first.task, first.profile, first.gold) == ("maze", "sequence", "up, left")
    assert "vicbench__maze_stage1.json:2: field 'answer': is missing" in str(bad.error)
    assert [item.row for item in (counting, first, bad)] == [1, 2, 3]
    picture(tmp_path / "other" / "stage1" / "img" / "m.png")  # beside the file; and the folder has the split's name
    (tmp_path / "other" / "stage1" / "maze.json").write_text(json.dumps([maze | {"image": "img/m.png"}]))
    (tmp_path / "other" / "stage1" / "counting.json").write_text(json.dumps([count | {"images": "img/m.png"}]))
    for place in ("other", "other/stage1"):
        found = load_suite(str(tmp_path / place), "vic-bench").questions
        assert [item.task for item in found] == ["counting", "maze"] and not any(item.error for item in found)
        assert all(path.is_file() for item in found for path in item.images)


def test_a_data_set_of_the_hub_is_read_at_its_revision(tmp_path, monkeypatch):
    cache = tmp_path / "datasets--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "0123abc"
    (snapshot / "images").mkdir(parents=True)
    (cache / "blobs" / "1").write_bytes(png())
    (snapshot / "images" / "a.png").symlink_to(cache / "blobs" / "1")
    row = {"id": "a", "question": "q", "image": "images/a.png", "options": ["1", "2"], "label": "A"}
    write_lines(snapshot / "arxivqa.jsonl", [row, row | {"image": "../../../x.png"}])
    asked = []

    def download(name, **how):
        asked.append((name, how["revision"]))
        return str(snapshot)

    monkeypatch.setattr(suite_files, "snapshot_download", download)
    suite = load_suite(name="arxivqa", revision="v1")
    assert asked == [("MMInstruction/ArxivQA", "v1")] and suite.origin["revision"] == "0123abc"
    assert colours(suite.questions[0]) == [GREEN]
    assert suite.questions[1].error is not None  # it leaves the data set


def test_all_suites_are_options():
    assert {*SUITES, "miniature"} == set(BenchOptions.__dataclass_fields__["suite"].type.__args__[0].__args__)


def test_a_budget_without_room_for_an_image_is_refused():
    vocabulary = SimpleNamespace(image_length=1024)
    with pytest.raises(InputError, match="1024 tokens cannot hold one image, which takes 1026"):
        room_for_an_image(vocabulary, SamplingOptions(max_new_tokens=1024))
    room_for_an_image(vocabulary, SamplingOptions(max_new_tokens=1026))
    for words in ({"mode": "text-only"}, {"max_images": 0}):
        room_for_an_image(vocabulary, SamplingOptions(max_new_tokens=9, **words))


def test_too_many_pictures_are_refused_and_none_dropped(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"question": "q", "image": [b64()] * 6, "answer": "1"}])
    [item] = load_suite(str(path)).questions
    assert within(item, 6) is item and "has 6 pictures" in str(within(item, 5).error)
