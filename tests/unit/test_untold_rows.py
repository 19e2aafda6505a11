"""Rows of Omni-Bench's parquet that do not tell where they are from."""

from omni_r1.bench.statistics import Blind
from omni_r1.bench.suites import load_suite
from suite_rows import parquet


def test_rows_that_tell_no_source_are_told_once(tmp_path, capsys):
    row = {"question": "q", "image": "<TLTS>", "answer": "1", "from": "mine"}
    bare = str(parquet(tmp_path / "a.parquet", [row, row, row | {"image": "%%%"}]))
    told = [{**row, "id": "chartqa_1", "task": None}, {**row, "id": "2", "task": "mine"}, {**row, "id": "3"}]
    some = str(parquet(tmp_path / "b.parquet", told))
    for how, said in (
        ({"data": bare}, "3 of 3 rows tell no source: graded strict, in no task;"),
        ({"data": some}, "2 of 3 rows tell no source: graded strict, 1 of them in no task;"),
        ({"data": some, "source_column": "from"}, "3 of 3 rows tell no source: graded strict, 2 of them in no task;"),
        ({"data": str(parquet(tmp_path / "c.parquet", told[1:2]))}, "1 of 1 rows tell no source: graded strict;"),
    ):
        load_suite(**how)
        warning = capsys.readouterr().err
        assert warning.startswith(f"omni-r1: warning: {said}") and warning.count("\n") == 1
    for how in ({"data": str(parquet(tmp_path / "d.parquet", told[:1]))}, {"name": "miniature"}):
        load_suite(**how)
        assert not capsys.readouterr().err


def test_a_blind_choice_among_the_choices_a_question_lists(tmp_path):
    """A row that tells no source has them, too, where its answer is one of them; else its lines are no choices."""
    question = "Which?\n(A) red\n(B) blue\n(C) green"
    rows = [{"question": question, "image": "<TLTS>", "answer": gold} for gold in ("B", "B", "blue", "red, blue")]
    found = load_suite(str(parquet(tmp_path / "a.parquet", rows))).questions
    assert [item.options for item in found] == [["red", "blue", "green"]] * 3 + [None]
    records = [{"id": item.id, "gold": item.gold, "options": item.options} for item in found[:2]]
    assert [*Blind(records).chance.values()] == [1 / 3, 1 / 3]
