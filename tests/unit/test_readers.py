"""What readers make of rows: samples as they stand, and a reject with a reason for each row that is none."""

import base64
import io
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from corpora import (
    GAMES,
    SEARCH,
    cell,
    m3cot_row,
    named,
    own_rows,
    picture,
    write_lines,
    write_m3cot,
    write_parquet,
    zebra,
    zebra_row,
)
from omni_r1.data.readers import PREFERRED, open_source, read, source
from omni_r1.data.sample import Picture, Place, Reject, RowError, Sample, picture_of
from omni_r1.errors import InputError
from omni_r1.trajectory import Image, Text


@pytest.fixture
def rows(vocabulary):
    """`rows(path, format, ...)`: everything that becomes of a data set."""

    def rows(path, form, *, configs=(), split="train", revision=None, **how):
        opened = open_source(str(path), configs, split, revision, PREFERRED[form])
        return [outcome for _, outcome in read(opened, form, vocabulary, **how)]

    return rows


def flat(parts) -> list:
    """Texts as text, pictures as the field they are from, images as codes."""
    kinds = {Text: lambda part: part.text, Picture: lambda part: f"@{part.field}", Image: lambda part: part.codes}
    return [kinds[type(part)](part) for part in parts]


def reasons(found) -> list:
    return [each.reason if isinstance(each, Reject) else "ok" for each in found]


def test_zebra_cot_row_by_row(rows, tmp_path):
    expected = zebra(tmp_path)
    found = {each.id: each for each in rows(tmp_path, "zebra-cot")}
    late = {"no-rationale", "broken-image"}  # told when rows are laid out and pictures decoded
    assert list(found) == sorted(expected)
    for name, outcome in expected.items():
        kind = Sample if outcome == "written" or outcome in late else Reject
        assert isinstance(found[name], kind) and (kind is Sample or found[name].reason == outcome), name
    one = found[f"{GAMES}:1"]
    assert flat(one.question) == ["Which move? ", "@problem_image_1", ""]
    assert flat(one.rationale) == [
        "THOUGHT 3: look. ", "@reasoning_image_2", " THOUGHT N: move. ", "@reasoning_image_10", "",
    ]  # fmt: skip
    assert one.answer == "Qh5" and one.question[1].data == picture(1, "PNG", "RGBA")
    assert one.place == Place(f"{GAMES}/train-00000-of-00002.parquet", 1)
    assert found[f"{GAMES}:4"].place == Place(f"{GAMES}/train-00001-of-00002.parquet", 1)
    assert flat(found[f"{GAMES}:2"].question) == ["2 + 2?"]
    front = found[f"{SEARCH}:1"]
    assert flat(front.question) == ["@problem_image_1", "@problem_image_2", "Find the key."]
    assert flat(front.rationale) == ["THOUGHT 1: zoom. ", "@reasoning_image_1", " Again ", "@problem_image_1", ""]


def test_numbers_of_columns_are_numbers(rows, tmp_path):
    cells = {f"problem_image_{number}": cell(picture(number)) for number in (10, 9, 1)}
    write_parquet(tmp_path / "train.parquet", [zebra_row("Q", "T", "A", **cells)])
    [one] = rows(tmp_path, "zebra-cot")
    assert flat(one.question) == ["@problem_image_1", "@problem_image_9", "@problem_image_10", "Q"]
    assert one.id == "default:1"


R1 = named("reasoning_image_1")


@pytest.mark.parametrize(
    ("row", "reason", "field"),
    [
        (zebra_row(" ", "T", "A"), "no-question", "Question"),
        (zebra_row("Q", "T", None), "empty-answer", "Final Answer"),
        (zebra_row("Q", "T", True), "malformed", "Final Answer"),
        (zebra_row("Q", "T", f"see {R1}"), "image-in-answer", "Final Answer"),
        (zebra_row("Q", R1, "A"), "missing-image", "Text Reasoning Trace"),
        (zebra_row("Q", R1, "A", reasoning_image_1=None), "missing-image", "Text Reasoning Trace"),
        (zebra_row("Q", named("Question"), "A"), "unknown-placeholder", "Text Reasoning Trace"),
        (zebra_row("Q", "T", "A", reasoning_image_1="a.png"), "unreferenced-image", "reasoning_image_1"),
        (zebra_row("Q", R1, "A", reasoning_image_1="gone.png"), "missing-image", "reasoning_image_1"),
        (zebra_row("Q", R1, "A", reasoning_image_1="../a.png"), "missing-image", "reasoning_image_1"),
        (zebra_row("Q", R1, "A", reasoning_image_1=7), "malformed", "reasoning_image_1"),
        (zebra_row("Q <image_start>", "T", "A"), "malformed-placeholder", "Question"),
        (zebra_row("Q", R1[:-5], "A", reasoning_image_1="a.png"), "malformed-placeholder", "Text Reasoning Trace"),
        (zebra_row("Q", "T\ud800", "A"), "malformed", None),
        (zebra_row(3, "T", "A"), "malformed", "Question"),
        (zebra_row("Q" * 100_001, "T", "A"), "malformed", "Question"),
        (zebra_row("Q", "T", "A", **{f"problem_image_{n}": "a.png" for n in range(65)}), "malformed", None),
        (zebra_row("Q", "T", "A", id=[1]), "malformed", "id"),
        (zebra_row("Q", "T", "A", id="\udc00"), "malformed", None),
        ("{", "malformed", None),
        ("[1]", "malformed", None),
    ],
)
def test_zebra_cot_rejects(rows, tmp_path, row, reason, field):
    """And the rows around stay what they are."""
    (tmp_path / "a.png").write_bytes(picture(1))
    good = zebra_row("Q", f"T {R1}", "A", reasoning_image_1="a.png")
    file = write_lines(tmp_path / "rows.jsonl", [good, row, good])
    before, wrong, after = rows(file, "zebra-cot")
    assert isinstance(before, Sample) and isinstance(after, Sample)
    assert (wrong.reason, wrong.field, wrong.place) == (reason, field, Place("rows.jsonl", 2))
    assert before.rationale[1].data == picture(1) and after.id == "rows:3"


def test_pictures_of_all_kinds(tmp_path):
    data = picture(1, "WEBP", "RGBA")
    (tmp_path / "a.webp").write_bytes(data)
    assert picture_of(cell(data), "x", None).data == data
    assert picture_of(data, "x", None).data == data
    assert picture_of(cell(None, "a.webp"), "x", tmp_path).data == data
    opened = PilImage.open(io.BytesIO(data))
    again = PilImage.open(io.BytesIO(picture_of(opened, "x", None).data))
    assert again.mode == "RGBA" and again.tobytes() == opened.tobytes()
    for wrong, root in ((cell(None), tmp_path), ("", tmp_path), (cell(None, "a.webp"), None), (".", tmp_path)):
        with pytest.raises(RowError) as error:
            picture_of(wrong, "x", root)
        assert error.value.reason == "missing-image"


def test_a_text_that_is_no_utf8_spoils_its_row_alone(rows, tmp_path):
    column = pa.array([b"Q", b"\xff", b"Q"], pa.binary()).view(pa.string())
    table = pa.table({"Question": column, "Text Reasoning Trace": ["T"] * 3, "Final Answer": ["A"] * 3})
    pq.write_table(table, tmp_path / "a.parquet")
    found = rows(tmp_path / "a.parquet", "zebra-cot")
    assert reasons(found) == ["ok", "malformed", "ok"] and found[1].field == "Question"


def original(vocabulary, **changed):
    codes = vocabulary.codes[:16].tolist()
    keys = {"problem_image_1": codes, "step": [vocabulary.boi, *codes[::-1], vocabulary.eoi]}
    return zebra_row(f"Q {named('problem_image_1')}", f"T {named('step')}", "A", **keys) | changed


def test_original(rows, tmp_path, vocabulary):
    (tmp_path / "notes.txt").write_text("no data")
    write_lines(tmp_path / "b.jsonl", [original(vocabulary)])
    write_lines(tmp_path / "a.jsonl", [original(vocabulary), "", original(vocabulary, id=7), original(vocabulary)])
    found = rows(tmp_path, "original")
    assert [each.id for each in found] == ["a:1", "7", "a:4", "b:1"]
    assert found[1].place == Place("a.jsonl", 3)  # a blank line is no row
    assert flat(found[0].question) == ["Q ", tuple(range(16)), ""]
    assert flat(found[0].rationale) == ["T ", tuple(reversed(range(16))), ""]


def test_original_rejects(rows, tmp_path, vocabulary):
    codes = vocabulary.codes[:16].tolist()
    wrong = {
        "image-length": [codes[:-1], [*codes, codes[0]], [], [vocabulary.boi] * 18],
        "no-image-code": [[*codes[:-1], 0], [*codes[:-1], -1], [*codes[:-1], vocabulary.size], [2**70, *codes[1:]]],
        "malformed": ["ids", [*codes[:-1], "x"], [*codes[:-1], True], {"a": 1}],
        "missing-image": [None],
    }
    file = write_lines(
        tmp_path / "a.jsonl",
        [original(vocabulary, step=step) for steps in wrong.values() for step in steps],
    )
    assert reasons(rows(file, "original")) == [reason for reason, steps in wrong.items() for _ in steps]


def test_m3cot(rows, tmp_path):
    changed = [
        {},
        {"id": "2", "context": "", "choices": ["a", "b", "c", "d", "e", "f", "g"], "answer": "G"},
        {"id": "3", "rationale": ""},
        {"id": "4", "answer": "C"},
        {"id": "5", "answer": "ice"},
        {"id": "6", "answer": None},
        {"id": "7", "choices": ["one"]},
        {"id": "8", "choices": None},
        {"id": "9", "image": None},
        {"id": "10", "question": ""},
        {"id": "2"},
    ]
    write_m3cot(tmp_path / "data" / "train-00000-of-00001.parquet", [m3cot_row(**change) for change in changed])
    write_m3cot(tmp_path / "data" / "test-00000-of-00001.parquet", [m3cot_row()])
    found = rows(tmp_path, "m3cot")
    assert reasons(found) == [
        "ok", "ok", "ok", "no-such-choice", "no-such-choice", "empty-answer", "malformed", "malformed",
        "missing-image", "no-question", "duplicate-id",
    ]  # fmt: skip
    one = found[0]
    assert flat(one.question) == ["@image", "A warm day.\nWhat melts?\n(A) stone\n(B) ice"]
    assert one.answer == "B" and flat(one.rationale) == ["It is warm.\n(B) ice is correct answer"]
    assert one.meta == {"category": "physical-commonsense", "domain": "commonsense", "split": "train"} | {
        "topic": "physical-commonsense"
    }
    assert one.options == ("stone", "ice") and len(found[1].options) == 7
    assert found[1].answer == "G" and found[1].question[1].text.startswith("What melts?\n(A) a")
    assert found[2].rationale == ()
    assert len(rows(tmp_path, "m3cot", split="test")) == 1


def test_own(rows, tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    good = {
        "id": "a",
        "prompt": "Left of <image>?",
        "images": ["a.png"],
        "rationale": "Zoom: <image> done.",
        "rationale_images": ["b.png"],
        "answer": "a boat",
    }
    listed = [
        good,
        good | {"id": "b", "prompt": "Left?", "rationale": "No.", "rationale_images": None, "answer": 4},
        good,  # again
        good | {"id": "c", "rationale_images": []},
        good | {"id": "d", "prompt": "<image> <image>"},
        good | {"id": "e", "rationale": "No mark."},
        good | {"id": "f", "rationale": ""},
        good | {"id": "g", "images": ["../a.png"]},
        good | {"id": "h", "images": ["c.png"]},
        good | {"id": "i", "images": "a.png"},
        good | {"id": "j", "images": ["a.png"] * 65},
        good | {"id": "k", "images": ["a.png"] * 33, "rationale_images": ["a.png"] * 33},
        good | {"id": "l", "prompt": None},
        good | {"id": "m", "answer": ""},
        good | {"id": "o", "answer": "a <image>"},
        {"id": "n", "prompt": "Q", "image": "a.png", "rationale": "R", "answer": "A"},
        good | {"id": "p", "images": [f"data:image/png;base64,{base64.b64encode(picture(1)).decode()}"]},
        good | {"id": "q", "images": ["data:image/png;base64,???"]},
    ]
    found = rows(write_lines(tmp_path / "own.jsonl", listed), "jsonl")
    assert reasons(found) == [
        "ok", "ok", "duplicate-id", "image-count", "image-count", "image-count", "image-count", "missing-image",
        "missing-image", "malformed", "malformed", "malformed", "no-question", "empty-answer",
        "image-in-answer", "malformed", "ok", "broken-image",
    ]  # fmt: skip
    assert found[-2].question[1].data == picture(1)
    assert flat(found[0].question) == ["Left of ", "@images", "?"]
    assert flat(found[0].rationale) == ["Zoom: ", "@rationale_images", " done."]
    assert found[1].answer == "4"
    assert flat(found[1].question) == ["@images", "Left?"] and flat(found[1].rationale) == ["No."]
    assert found[0].question[1].data == picture(1) and found[0].rationale[1].data == picture(2)


def test_a_pipe_is_not_waited_for(rows, tmp_path):
    os.mkfifo(tmp_path / "a.png")
    row = {"prompt": "Q", "images": ["a.png"], "rationale": "R", "answer": "A"}
    assert reasons(rows(write_lines(tmp_path / "own.jsonl", [row]), "jsonl")) == ["missing-image"]
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(InputError, match="regular file"):
        rows(tmp_path, "jsonl")


def test_configs_and_limit(rows, tmp_path):
    zebra(tmp_path)
    assert [each.id for each in rows(tmp_path, "zebra-cot", configs=["Chess"], limit=2)] == [f"{GAMES}:1", f"{GAMES}:2"]
    assert len(rows(tmp_path, "zebra-cot", configs=[SEARCH])) == 5
    assert [each.id for each in rows(tmp_path, "zebra-cot", limit=1)] == [f"{SEARCH}:1", f"{GAMES}:1"]
    with pytest.raises(InputError, match=f"no 'Ches'; the nearest of 2 is '{GAMES}'"):
        rows(tmp_path, "zebra-cot", configs=["Ches"])


def test_reading_goes_on_behind_any_row(rows, tmp_path, vocabulary):
    zebra(tmp_path)
    own_rows(tmp_path / "own", 9)
    for path, form in ((tmp_path, "zebra-cot"), (tmp_path / "own", "jsonl")):
        opened = open_source(str(path), [], "train", None, PREFERRED[form])
        for limit in (None, 4):
            whole = list(read(opened, form, vocabulary, limit=limit))
            for place, (position, _) in enumerate(whole, 1):
                assert list(read(opened, form, vocabulary, after=position, limit=limit)) == whole[place:]


def test_source_is_described(tmp_path):
    zebra(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.parquet").write_bytes(b"not read")
    opened = open_source(str(tmp_path), [], "train", None, ".parquet")
    assert [part.name for part in opened.parts] == [SEARCH, GAMES]
    assert opened.licence == "cc-by-nc-4.0" and opened.total == 10 and opened.revision is None
    assert opened.files[0] == (f"{SEARCH}/train-00000-of-00001.parquet", opened.files[0][1])
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert open_source(str(tmp_path), [], "train", None, ".parquet").licence is None


def test_splits_of_a_folder(rows, tmp_path):
    for name in ("a/train/0000.parquet", "a/test/0000.parquet", "b/train-0.parquet", "b/validation-0.parquet", "rest"):
        write_parquet(tmp_path / name, [zebra_row(name, "T", "A")])
    found = {split: [flat(each.question)[0] for each in rows(tmp_path, "zebra-cot", split=split)] for split in SPLITS}
    assert found["train"] == ["a/train/0000.parquet", "b/train-0.parquet"]
    assert found["test"] == ["a/test/0000.parquet"] and found["validation"] == ["b/validation-0.parquet"]
    assert [each.id for each in rows(tmp_path, "zebra-cot")] == ["a:1", "b:1"]


SPLITS = ("train", "test", "validation")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("a.png"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bytes", "path", "x"]), inner),
    max_leaves=4,
)
MARKS = [named("problem_image_1"), named("reasoning_image_1"), "<image>", "<image_end>", "A", "text"]
WORDS = st.lists(st.sampled_from(MARKS), max_size=3).map(" ".join)
KEYS = {
    "zebra-cot": ["Question", "Text Reasoning Trace", "Final Answer", "problem_image_1", "reasoning_image_1", "id"],
    "m3cot": ["question", "context", "choices", "answer", "rationale", "image", "id"],
    "jsonl": ["prompt", "images", "rationale", "rationale_images", "answer", "id"],
}
KEYS["original"] = KEYS["zebra-cot"]


@pytest.mark.parametrize("form", KEYS)
@given(data=st.data())
def test_any_row_is_a_sample_or_a_reject(form, data, vocabulary, tmp_path_factory):
    row = data.draw(st.dictionaries(st.sampled_from(KEYS[form]), WORDS | ODD))
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.png").write_bytes(picture(1))
    opened = open_source(str(write_lines(folder / "odd.jsonl", [row])), [], "train", None, PREFERRED[form])
    [(position, outcome)] = read(opened, form, vocabulary)
    assert position == (0, 1) and isinstance(outcome, Sample | Reject)
    json.dumps(outcome.to_json() if isinstance(outcome, Reject) else [outcome.id.encode().decode(), outcome.answer])


def test_sources_that_cannot_be(tmp_path):
    def opened(path: Path, split="train", revision=None):
        return open_source(str(path), [], split, revision, ".parquet")

    with pytest.raises(InputError, match="no .*parquet and no .*jsonl"):
        opened(tmp_path)
    (tmp_path / "a.csv").write_text("a")
    with pytest.raises(InputError, match="neither"):
        opened(tmp_path / "a.csv")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(InputError, match="train.parquet: field 'input': cannot be read"):
        opened(tmp_path)
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="'a': is the name of two columns"):
        opened(tmp_path)
    with pytest.raises(InputError, match="'revision': files have no"):
        opened(tmp_path, revision="main")
    with pytest.raises(InputError, match="'split': .* has train, not 'test'"):
        opened(tmp_path, split="test")


def test_a_damaged_file_is_an_error_and_no_end(rows, tmp_path):
    file = write_parquet(tmp_path / "a.parquet", [zebra_row("Q", "T" * 50, "A") for _ in range(9)])
    data = bytearray(file.read_bytes())
    page = pq.read_metadata(file).row_group(1).column(1).data_page_offset
    data[page : page + 20] = b"\xff" * 20
    file.write_bytes(data)
    with pytest.raises(InputError, match="a.parquet: field 'input': cannot be read after row 3"):
        rows(file, "zebra-cot")


class FakeHub:
    """What `HfApi` says of a data set; its snapshot is a local folder."""

    def dataset_info(self, name, revision=None):
        assert (name, revision) == ("someone/zebra", "v1")
        return type("Info", (), {"sha": "c0ffee", "card_data": {"license": "cc-by-nc-4.0"}})()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`someone/zebra` on the hub, read by the real library from a folder."""
    zebra(tmp_path / "snapshot")
    listed = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n"
        for name in (GAMES, SEARCH)
    )
    (tmp_path / "snapshot" / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    load, names = datasets.load_dataset, datasets.get_dataset_config_names

    def local(real):
        def called(name, *rest, revision, **how):
            assert (name, revision) == ("someone/zebra", "c0ffee")
            return real(str(tmp_path / "snapshot"), *rest, **how)

        return called

    monkeypatch.setattr(source, "HfApi", FakeHub)
    monkeypatch.setattr(datasets, "load_dataset", local(load))
    monkeypatch.setattr(datasets, "get_dataset_config_names", local(names))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "snapshot"


def test_the_hub_gives_what_a_copy_gives(rows, hub, vocabulary):
    copied = {each.id: each for each in rows(hub, "zebra-cot")}
    streamed = {each.id: each for each in rows("someone/zebra", "zebra-cot", revision="v1")}
    assert streamed.keys() == copied.keys()
    for name, one in streamed.items():
        other = copied[name]
        if isinstance(one, Sample):
            assert (one.question, one.rationale, one.answer) == (other.question, other.rationale, other.answer)
        else:
            assert (one.reason, one.field, one.message) == (other.reason, other.field, other.message)
    assert streamed[f"{GAMES}:4"].place == Place(f"{GAMES}/train", 4)
    opened = open_source("someone/zebra", ["Chess"], "train", "v1", ".parquet")
    assert opened.revision == "c0ffee" and opened.licence == "cc-by-nc-4.0"
    assert [position for position, _ in read(opened, "zebra-cot", vocabulary, after=(0, 3))] == [(0, 4), (0, 5)]


def test_what_the_hub_has_not(rows, hub):
    with pytest.raises(InputError, match="Bad split"):
        rows("someone/zebra", "zebra-cot", revision="v1", split="test")
    with pytest.raises(InputError, match="no such file or folder, and not to be had from the hub"):
        rows("someone/else", "zebra-cot")
    for name in ("someone/else.parquet", "else.jsonl"):
        with pytest.raises(InputError, match=f"^{name}: field 'input': no such file$"):
            open_source(name, [], "train", None, ".parquet")
    for name in ("/no/such", "./no/such/folder"):  # no names of the hub
        with pytest.raises(InputError, match="field 'input': no such file or folder$"):
            open_source(name, [], "train", None, ".parquet")
