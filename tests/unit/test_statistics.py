"""Records to figures: what counts as right, baselines without looking, parts of a run, samples of one question."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_r1.bench.intervals import wilson
from omni_r1.bench.published import SLICES
from omni_r1.bench.statistics import outcome, summarise, weighted_average


def record(name: str, correct: bool | None, **more) -> dict:
    drawn, steps = more.pop("drawn", 1), more.pop("steps", (True,))
    said = [
        {"text": "Look at it.\n"},
        *({"image": f"{k}.png", "step": {"correct": k < len(steps) and steps[k]}} for k in range(drawn)),
    ]
    return {
        "id": name, "sample": 0, "status": "ok", "task": "x", "answer": "red", "gold": "red", "correct": correct,
        "judged": True, "gold_images": ["g.png"] * len(steps), "images_whole": [True] * drawn, "segments": said,
        "tokens": 20, "control": None,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"correct": True}, "right"),
        ({"correct": False}, "wrong"),
        ({"correct": False, "answer": None}, "no_answer"),
        ({"correct": False, "answer": "N/A", "no_answer": True}, "no_answer"),
        ({"correct": False, "parsed": False}, "unparsed"),
        ({"correct": None}, "ungraded"),
        ({"correct": False, "status": "error", "answer": None}, "failed"),
    ],
)
def test_what_became_of_a_record(more, expected):
    assert outcome(record("a", None) | more) == expected
    assert summarise([record("a", None) | more])["accuracy"]["overall"] == (expected == "right")


def test_counts_stand_apart():
    rows = [record("a", True), record("b", False, status="error", answer=None, segments=[], images_whole=[])]
    rows += [record("c", False, answer=None), record("d", False, parsed=False, task="y"), record("e", None, task="y")]
    found = summarise(rows)
    missing = {name: found[name] for name in ("failed", "no_answer", "unparsed", "ungraded")}
    assert missing == {
        "failed": {"overall": 1, "x": 1, "y": 0},
        "no_answer": {"overall": 1, "x": 1, "y": 0},
        "unparsed": {"overall": 1, "x": 0, "y": 1},
        "ungraded": {"overall": 1, "x": 0, "y": 1},
    }
    assert found["accuracy"] == {"overall": 0.2, "x": pytest.approx(1 / 3), "y": 0.0}
    assert found["interval"]["overall"] == wilson(1, 5)


def test_the_whole_is_the_average_weighted_by_questions():
    rng = random.Random(3)
    rows = [record(f"{task}{k}", rng.random() < 0.3, task=task) for task, size in SLICES.items() for k in range(size)]
    found = summarise(rows)
    tasks = {task: found["accuracy"][task] for task in SLICES}
    assert found["count"] == {"overall": 800, **SLICES}
    assert found["accuracy"]["overall"] == pytest.approx(weighted_average(tasks, SLICES), abs=1e-12)


def test_samples_of_a_question_are_averaged_first():
    rows = [record("a", k < 3, sample=k) for k in range(4)] + [record("b", k < 1, sample=k) for k in range(2)]
    found = summarise(rows)
    assert found["accuracy"]["overall"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["count"]["overall"] == 2 and found["samples"]["overall"] == 6
    low, high = found["interval"]["overall"]
    assert low < 0.625 < high and high - low > wilson(3.75, 6)[1] - wilson(3.75, 6)[0]


def test_blind_baselines():
    rows = [record(str(k), True, gold=gold, task=task) for k, (task, gold) in enumerate(
        [("x", "red"), ("x", "red"), ("x", "blue"), ("y", "1"), ("y", "2"), ("y", None)]
    )]  # fmt: skip
    rows[4]["options"] = ["1", "2", "3", "4"]
    found = summarise(rows)
    assert found["constant"] == {"overall": 3 / 6, "x": 2 / 3, "y": 1 / 3}
    assert found["chance"]["x"] == 0.5 and found["chance"]["y"] == pytest.approx((1 / 2 + 1 / 4) / 3)


def test_a_failed_row_is_right_for_no_blind_answer():
    """Nor does its gold answer, which may be blank, count among those of its task."""
    bad = {"status": "error", "answer": None}
    rows = [record("a", True), record("b", False, gold="blue"), record("c", False, gold="blue", **bad)]
    rows += [record(name, False, gold=gold, **bad) for name, gold in (("d", "green"), ("e", " "), ("f", ""))]
    found = summarise(rows)
    assert found["constant"]["overall"] == 1 / 6 and found["chance"]["overall"] == pytest.approx((1 / 2 + 1 / 2) / 6)
    rows = [record("a", False, sample=0, **bad), record("a", True, sample=1)]
    assert summarise(rows)["constant"]["overall"] == summarise(rows[::-1])["constant"]["overall"] == 1.0


def test_the_control_answers_a_question_once():
    rows = [record(name, True, sample=k, control={"correct": name == "a"}) for name in "abcd" for k in range(3)]
    found = summarise(rows)
    assert found["control_accuracy"]["overall"] == 0.25 and found["control_interval"]["overall"] == wilson(1, 4)


def test_steps_and_lengths():
    rows = [
        record("a", True, drawn=3, steps=(True, True, False)),
        record("b", True, drawn=1, steps=(True, True)),
        record("c", False, drawn=0, steps=(), images_whole=[], segments=[{"text": "one two three four five six"}]),
    ]
    found = summarise(rows)
    assert found["step_accuracy"]["overall"] == 3 / 5 and found["valid_images"]["overall"] == 1.0
    assert found["images"]["overall"] == 4 / 3 and found["images_median"]["overall"] == 1
    assert found["words"]["overall"] == 4 and found["words_median"]["overall"] == 3
    assert found["tokens"]["overall"] == 20
    bad = record("d", False, task="y", status="error", segments=[], images_whole=[], judged=False, tokens=0)
    lengths = [name + end for name in ("images", "words", "tokens") for end in ("", "_median")]
    for name in lengths:
        assert summarise([*rows, bad])[name] == {**found[name], "y": None}
    assert all(summarise([bad])[name] == {"overall": None, "y": None} for name in lengths)


def test_parts_of_a_run():
    rows = [record("a", True, source="V*"), record("b", False, drawn=2, steps=(True, False), source="ChartQA")]
    rows.append(record("c", False, status="error", source="V*", segments=[], images_whole=[]))
    found = summarise(rows)
    assert found["by_source"]["accuracy"] == {"V*": 0.5, "ChartQA": 0.0}
    assert found["by_images"]["accuracy"] == {"1": 1.0, "2": 0.0}
    assert found["by_steps"]["accuracy"] == {"steps right": 1.0, "a step wrong": 0.0}
    ours = [record("d", True, source="A", gold="x"), record("e", True, source="B", gold="y")]
    constant = summarise([*ours, record("f", True, source="A", gold="x")])
    assert constant["constant"]["overall"] == 2 / 3  # of the task; a source is a benchmark of its own
    assert constant["by_source"]["constant"] == {"A": 1.0, "B": 1.0}
    for part in ("by_source", "by_images", "by_steps"):
        assert set(found[part]["constant"]) == set(found[part]["accuracy"]) == set(found[part]["interval"])
    unjudged = [record("a", True, judged=False), record("b", False, judged=False, images_whole=[False])]
    unjudged.append(record("c", False, judged=False, drawn=0, images_whole=[]))
    assert set(summarise(unjudged)["by_steps"]["count"]) == {"images whole", "an image broken", "nothing drawn"}
    assert summarise(unjudged)["step_accuracy"]["overall"] is None


records_lists = st.lists(
    st.builds(
        record, st.sampled_from("abcdefgh"), st.sampled_from([True, False, None]), drawn=st.integers(0, 3),
        task=st.sampled_from([None, "x", "y"]), gold=st.sampled_from([None, "red", "blue"]),
        tokens=st.integers(0, 9), source=st.sampled_from([None, "V*", "ChartQA"]),
    ), min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=60)
@given(records_lists, st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order(rows, rng):
    for sample, row in enumerate(rows):  # what is one question has one gold answer, task and source
        first = next(other for other in rows if other["id"] == row["id"])
        row |= {"sample": sample, "gold": first["gold"], "task": first["task"], "source": first["source"]}
    shuffled = rows[:]
    rng.shuffle(shuffled)
    one, other = (json.dumps(summarise(listed), sort_keys=True) for listed in (rows, shuffled))
    assert one == other


@settings(max_examples=60)
@given(records_lists)
def test_every_share_lies_in_its_interval(rows):
    found = summarise([row | {"sample": k} for k, row in enumerate(rows)])
    for key, within in (
        ("accuracy", "interval"),
        ("step_accuracy", "step_interval"),
        ("valid_images", "valid_interval"),
    ):
        for name, value in found[key].items():
            bounds = found[within][name]
            assert (value is None) == (bounds is None)
            assert value is None or 0 <= bounds[0] <= value <= bounds[1] <= 1
