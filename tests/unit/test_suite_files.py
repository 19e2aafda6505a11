"""Which files a suite reads, and what is none."""

import json
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from omni_r1.bench.beginning import same_data
from omni_r1.bench.suites import Suite, load_suite
from omni_r1.bench.suites import files as suite_files
from omni_r1.errors import InputError
from suite_rows import parquet


def test_a_split_without_answers_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_files, "snapshot_download", lambda *_, **__: pytest.fail("it was downloaded"))
    with pytest.raises(InputError, match="field 'split': the answers of 'test' are not published"):
        load_suite(name="mathvista", split="test")
    for path in (tmp_path / "test-00000-of-00002.parquet", tmp_path / "test" / "0.parquet"):
        parquet(path, [{"pid": "1"}])
        with pytest.raises(InputError, match="field 'data': is the split 'test', whose answers"):
            load_suite(str(tmp_path), "mathvista")
        path.unlink()


def test_data_that_are_not_there(monkeypatch):
    def download(name, **how):
        raise LocalEntryNotFoundError("Got: ConnectError: no network\nand more")

    monkeypatch.setattr(suite_files, "snapshot_download", download)
    for name in ("nope.parquet", "someone/nope.jsonl", "a/b/nope.json"):
        with pytest.raises(InputError, match=f"^{name}: field 'data': no such file$"):
            load_suite(name)
    with pytest.raises(
        InputError, match="no such file or folder, and not to be had from the hub: ConnectError: no net"
    ):
        load_suite("someone/nope")


def test_what_cannot_be_a_suite(tmp_path):
    parquet(tmp_path / "two" / "train-0.parquet", [{"a": 1}])
    parquet(tmp_path / "two" / "val-0.parquet", [{"a": 1}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("question\n")
    wrong = [
        ({"data": str(tmp_path / "two"), "name": "chartqa"}, "split"),
        ({"data": str(tmp_path / "empty")}, "data"),
        ({"data": str(tmp_path / "a.csv")}, "data"),
        ({"data": str(tmp_path / "absent/x/y")}, "data"),
        ({"data": str(tmp_path / "two"), "revision": "v1"}, "revision"),
        ({"name": "miniature", "data": str(tmp_path)}, "suite"),
        *(({"name": "miniature", field: "task"}, field) for field in ("revision", "split", "source_column")),
        ({"name": "chartqa", "data": str(tmp_path / "two"), "split": "val", "source_column": "a"}, "source_column"),
    ]
    for how, field in wrong:
        with pytest.raises(InputError) as told:
            load_suite(**how)
        assert told.value.field == field


def test_a_suite_is_called_by_its_name_whatever_its_data_are_called(tmp_path):
    row = {"question": "q", "image": "<TLTS>", "answer": "1"}
    for name in ("omni-bench_cleaned.parquet", "Omni-Bench.parquet", "mine.parquet"):
        assert load_suite(str(parquet(tmp_path / name, [row]))).name == "omni-bench"
    assert load_suite().name == load_suite("miniature").name == "miniature"


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    """By what its files hold; whatever they are called, and in the order in which they are read."""
    folder = SimpleNamespace(path=tmp_path, records={}, before=None)
    read = {"a.parquet": "1", "b.parquet": "2"}
    same_data(folder, Suite("a", [], origin={"files": read}))  # there is nothing to go on with
    folder.records, folder.before = {("x", 0): {}}, {}
    (tmp_path / "suite.json").write_text(json.dumps({"files": read}))
    for files in (read, {"c.parquet": "1", "d.parquet": "2"}):
        same_data(folder, Suite("a", [], origin={"files": files}))
    for files, told in (({"a.parquet": "1", "c.parquet": "3"}, "c.parquet"), ({"a": "2", "b": "1"}, "other files")):
        with pytest.raises(InputError, match=f"has read: {told}; --no-resume starts anew"):
            same_data(folder, Suite("a", [], origin={"files": files}))
