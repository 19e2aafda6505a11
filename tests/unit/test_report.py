import base64
import hashlib
import json
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from fake_run import fake_run, write_rows
from html_reader import HOSTILE, Reader, rows_of
from omni_r1.bench.statistics import summarise
from omni_r1.errors import InputError
from omni_r1.options import ReportOptions
from omni_r1.show.overview import sentence
from omni_r1.show.plot import Series, accuracies
from omni_r1.show.records import Pictures, checked
from omni_r1.show.report import report, report_verb
from omni_r1.show.strip import article, drawings_verdict, verdict_of
from omni_r1.show.table import table
from omni_r1.trajectory import IMAGE_MARK, TAGS


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "run")


def read(run: Path) -> Reader:
    return Reader(report(run).read_text(encoding="utf-8"))


def test_a_page_holds_everything_of_a_run_and_nothing_from_outside(run: Path) -> None:
    page, rows = read(run), rows_of(run)
    assert [a["data-verdict"] for a in page.all("article")] == [verdict_of(checked(row)) for row in rows]
    for row in rows:
        said = [row["id"], row["question"].removesuffix(" <image>"), row["answer"], row["error"]]
        said += (
            [] if row["correct"] and row["answer"] == row["gold"] else [row["reason"]]
        )  # 'blue' = 'blue' says nothing
        said += [row["gold"]] if row["correct"] is False else []
        said += [part["text"].strip().partition("Final")[0] for part in row["segments"] if "text" in part]
        said += [part["step"]["reason"] for part in row["segments"] if "image" in part]
        assert all(words in page.text for words in said if words)
    pictures = sum(len(row["question_images"]) + len(row["gold_images"]) for row in rows)
    pictures += sum("image" in part for row in rows for part in row["segments"])
    sources = [image["src"] for image in page.all("img") if "src" in image]
    assert len(sources) == pictures
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert all(image["alt"] for image in page.all("img") if "src" in image)
    assert not page.all("link") and not re.search(r"https?:|url\(|@import", (run / "report.html").read_text())


def test_the_top_tells_the_figures_in_words_and_numbers(run: Path) -> None:
    page, summary = read(run), json.loads((run / "summary.json").read_text())
    for figure in (summary["accuracy"]["board"], summary["control_accuracy"]["overall"], summary["chance"]["overall"]):
        assert f"{figure:.1%}" in page.text
    assert f"The model answered {summary['accuracy']['overall']:.1%} of 12 questions right" in page.text
    assert "1,234" in page.text and "tokens a second" in page.text and "1 question failed" in page.text
    values = {(field["name"], field["value"]) for field in page.all("input") if field["type"] == "radio"}
    assert {("task", "scene"), ("verdict", "right"), ("verdict", "failed"), ("steps", "wrong")} <= values


def test_a_strip_runs_from_picture_over_thoughts_and_drawings_to_answer(run: Path) -> None:
    row = next(row for row in rows_of(run) if row["task"] == "board" and row["correct"])
    text = Reader(article(1, checked(row), Pictures(run, 192))).text
    places = [
        text.index(words) for words in ("The picture", "moves up.", "Step 1", "moves left.", "Step 2", "Final Answer")
    ]
    assert places == sorted(places)
    assert text.count("Final Answer:") == 1


def test_only_the_pages_own_style_and_script_may_run(run: Path) -> None:
    page = read(run)
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for code in page.code.values():
        assert len(code) == 1
        assert base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode() in policy


def test_whatever_a_model_writes_stays_text(run: Path) -> None:
    rows = rows_of(run)
    tags = len(read(run).tags)
    for key in ("id", "task", "answer", "gold", "reason", "stop"):
        rows[0][key] = HOSTILE + key
    rows[0]["correct"] = False
    rows[0]["question"] = HOSTILE + " <image>"
    rows[0]["segments"][0]["text"] = HOSTILE
    rows[0]["segments"][1]["step"] = {"correct": False, "reason": HOSTILE}
    rows[0]["control"]["answer"] = HOSTILE
    rows[10]["error"] = HOSTILE
    rows[1]["question"] = "half a \ud800 pair"
    write_rows(run, rows)
    summary = json.loads((run / "summary.json").read_text())
    summary["suite"] = HOSTILE
    summary["accuracy"][HOSTILE] = 0.5
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "run.json").write_text(json.dumps({"options": {"model_path": HOSTILE}, HOSTILE: HOSTILE}))
    page = read(run)
    assert page.text.count(HOSTILE) >= 12 and tags - 60 < len(page.tags) < tags + 60
    assert all(len(code) == 1 for code in page.code.values())
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("<>\"'&/!-= abci\n\0\ud800") | st.characters(), max_size=60))
def test_no_text_adds_a_tag_to_a_row(tmp_path: Path, text: str) -> None:
    assume(not any(mark in text for mark in (*TAGS, IMAGE_MARK)))  # which have a look of their own

    def tags(text: str) -> list[str]:
        row = {"id": "a" + text, "task": text + "b", "question": "a" + text, "segments": [{"text": "a" + text + "b"}],
               "answer": "a" + text, "gold": text, "correct": False, "reason": "a" + text}  # fmt: skip
        return [tag for tag, _ in Reader(article(1, checked(row), Pictures(tmp_path, 192))).tags]

    assert tags(text) == tags("")


def test_output_without_gold_has_no_verdicts_to_filter_by(run: Path) -> None:
    rows = rows_of(run)[:6]
    for row in rows:
        row |= {"gold": None, "gold_images": [], "correct": None, "task": None, "control": None}
        row["segments"] = [part | {"step": None} if "image" in part else part for part in row["segments"]]
    write_rows(run, rows)
    (run / "summary.json").write_text(json.dumps({"rows": 6, "tokens_per_second": 99.6, "seconds": 2.0}))
    page = read(run)
    assert not [field for field in page.all("input") if field["type"] == "radio"] and not page.all("table")
    assert "Nothing here is graded" in page.text and "Final Answer:" in page.text and "✗" not in page.text


def test_a_page_needs_no_optional_key_and_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, [{"question": "Only a question?"}, {}])
    assert report_verb(ReportOptions(str(tmp_path))) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert "2 questions, answered in text" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": 3}, "question"),
        ({"segments": "text"}, "segments"),
        ({"segments": [{"text": None}]}, "segments"),
        ({"segments": [{"image": "a.png", "step": {"correct": "yes"}}]}, "segments"),
        ({"question_images": [None]}, "question_images"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_failed_row(
    run: Path, row: dict, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(run, [*rows_of(run), row])
    assert report_verb(ReportOptions(str(run))) == 2
    error = f"results.jsonl:13: field '{field}'"
    assert error in capsys.readouterr().err
    page = Reader((run / "report.html").read_text())
    assert len(page.all("article")) == 13 and page.all("article")[-1]["data-verdict"] == "failed"
    assert error in page.text


def test_a_torn_line_is_a_failed_row(run: Path) -> None:
    with open(run / "results.jsonl", "a") as out:
        out.write('{"id": "cut o')
    assert read(run).all("article")[-1]["data-verdict"] == "failed"


@pytest.mark.parametrize("path", ["images/none.png", "../secret.png", "/etc/passwd", "images", "run.json"])
def test_a_picture_that_cannot_be_shown_says_so(run: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64), "red").save(run.parent / "secret.png")
    rows = rows_of(run)
    shown = len(read(run).all("img"))
    rows[0]["question_images"] = [path]
    write_rows(run, rows)
    assert report_verb(ReportOptions(str(run))) == 2
    assert "picture 1" in capsys.readouterr().err
    page = Reader((run / "report.html").read_text())
    assert "This picture" in page.text and path in page.text and len(page.all("img")) == shown - 1


def test_heavy_pictures_are_recompressed_and_shown_at_their_size(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", rows=1, size=512)
    noise = Image.effect_noise((512, 512), 60).convert("RGB")
    noise.save(run / "images" / "0-drawn-0.png")
    page = read(run)
    sizes = {(image["width"], "class" in image) for image in page.all("img") if "src" in image}
    assert sizes == {("512", False)} and page.all("body")[0]["class"] == "large"
    heavy = [image["src"] or "" for image in page.all("img") if (image.get("src") or "").startswith("data:image/webp")]
    assert len(heavy) == 1 and len(heavy[0]) < (run / "images" / "0-drawn-0.png").stat().st_size / 2


def test_small_pictures_are_shown_as_blocks_three_times_their_size(run: Path) -> None:
    pictures = [image for image in read(run).all("img") if "src" in image]
    assert {(image["width"], image["height"], image["class"]) for image in pictures} == {("192", "192", "blocks")}


def test_a_missing_drawing_is_a_wrong_step() -> None:
    drawn = {"image": "a.png", "step": {"correct": True, "reason": ""}}
    row = checked({"segments": [drawn], "gold_images": ["a.png"], "correct": True, "judged": True})
    assert drawings_verdict(row) == "right"
    assert drawings_verdict(row | {"gold_images": ["a.png", "b.png"]}) == "wrong"
    assert drawings_verdict(row | {"segments": [drawn | {"step": {"correct": False}}]}) == "wrong"
    assert drawings_verdict(row | {"segments": [drawn | {"step": None}]}) == ""
    assert drawings_verdict(row | {"segments": [], "judged": False}) == ""


def test_files_that_cannot_be_read_are_named(run: Path) -> None:
    (run / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json: malformed JSON"):
        report(run)
    (run / "summary.json").write_text('{"accuracy": {"overall": "high"}}')
    with pytest.raises(InputError, match=r"summary\.json: field 'accuracy': must be numbers"):
        report(run)
    (run / "summary.json").write_text('{"accuracy": {"overall": 1}, "interval": {"overall": 0.5}}')
    with pytest.raises(InputError, match=r"summary\.json: field 'interval': must be pairs of numbers"):
        report(run)
    (run / "results.jsonl").unlink()
    with pytest.raises(InputError, match="no run here"):
        report(run)


def test_the_page_says_what_is_unusual_of_a_run(run: Path) -> None:
    record = json.loads((run / "run.json").read_text()) | {"options": {"swap_pictures": True}}
    (run / "run.json").write_text(json.dumps(record))
    assert "another question's picture" in read(run).text
    (run / "summary.json").unlink()
    assert "The run did not finish" in read(run).text


def test_the_table_is_aligned_text() -> None:
    summary = {
        "accuracy": {"overall": 0.78, "scene": 0.9, "board": None},
        "interval": {"overall": [0.737, 0.818], "scene": (0.8, 1.0)},
        "control_accuracy": {"overall": 0.41},
        "control_interval": {"overall": [0.36, 0.46]},
        "chance": {"overall": 0.2, "scene": 0.175},
        "step_accuracy": {"overall": 0.834},
        "valid_images": {"overall": 1.0},
        "tokens_per_second": 3.0,
    }
    lines = table(summary).splitlines()
    assert lines == [
        "         accuracy             text-only control   chance",
        "overall  78.0% [73.7, 81.8]   41.0% [36.0, 46.0]  20.0%",
        "scene    90.0% [80.0, 100.0]  –                   17.5%",
        "board    –                    –                   –",
        "",
        "Drawings and lengths",
        "         steps right  whole images",
        "overall  83.4%        100.0%",
        "scene    –            –",
        "board    –            –",
    ]


def test_figures_are_tables_plots_and_markdown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record | {"source": "V*" if record["task"] == "scene" else None} for record in rows_of(run)]
    records[0] |= {"answer": None, "correct": False}
    summary = {"suite": "omni-bench", **summarise(records)}
    (run / "summary.json").write_text(json.dumps(summary))
    assert report_verb(ReportOptions(str(write_rows(run, records)))) == 0
    said, page = capsys.readouterr().out, Reader((run / "report.html").read_text())
    marked = (run / "figures.md").read_text()
    for title in ("Drawings and lengths", "Answers by source", "Answers by images drawn", "Answers by drawings"):
        assert title in said and f"### {title}\n" in marked and title in page.text
    for text in (said, marked, page.text):
        for words in ("constant answer", "Omni-R1-Zero-M (published)", "without PeRPO (published)"):
            assert words in text
    assert f"| overall | 12 | {summary['accuracy']['overall']:.1%} [" in marked
    plots = [svg for svg in page.all("svg") if svg.get("class") == "plot"]
    told = f"the model, overall: {summary['accuracy']['overall']:.1%}"
    assert len(plots) == 4 and told in (plots[0]["aria-label"] or "")
    assert "1 are missing; none of these counts as right" in page.text
    assert "and the best constant answer " in page.text
    alone = {name: value for name, value in summary.items() if not name.startswith("control")}
    assert f"The best constant answer gets {summary['constant']['overall']:.1%}." in sentence(alone, records, {})
    before = (run / "report.html").read_bytes()
    random.Random(1).shuffle(records)
    assert {key: summary[key] for key in summary} == {"suite": "omni-bench", **summarise(records)}
    assert report(run).read_bytes() == before


def test_names_below_a_plot_do_not_run_into_each_other() -> None:
    """Of the suite's own tasks and of longer ones, at 7 pixels a letter, more than one takes."""
    tasks = ["overall", "natural", "structured", "diagrammatic", "vision-operational", "textbook question answering"]
    drawn = accuracies([Series("the model", {"accuracy": dict.fromkeys(tasks, 0.5)})], tasks)
    names = re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', drawn)
    assert " ".join(text for _, _, text in names) == " ".join(tasks)
    spans = sorted((float(y), float(x) - 3.5 * len(text), float(x) + 3.5 * len(text)) for x, y, text in names)
    assert all(one[2] < other[1] for one, other in pairwise(spans) if one[0] == other[0])
    assert spans[0][1] >= 0 and max(end for _, _, end in spans) <= float(re.findall(r' width="(\d+)"', drawn)[0])
    assert accuracies([Series("the model", {})], [])


def test_judge_prefix_rules_and_time_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = rows_of(run)
    for record in records:
        record |= {"rule": {"correct": record["correct"], "reason": "the same words"}, "profile": "strict"}
        record["judge"] = None if record["status"] == "error" else {"correct": True, "reason": "<m> says True"}
    records[0]["judge"] = {"correct": None, "reason": "HTTP 500", "model": "<m>"}
    groups = summarise(records)["count"]
    summary = {
        **summarise(records), "prefix": {"overall": 0.625, "board": None}, "profiles": {"strict": 9, "number": 3},
        "judge": {"model": "<m>", "accuracy": dict.fromkeys(groups, 0.75), "missing": dict.fromkeys(groups, 1),
                  "interval": dict.fromkeys(groups, [0.5, 0.875]), "agreement": 0.9, "kappa": 0.25, "only_rule": 0,
                  "only_judge": 1234, "tokens_in": 5678, "tokens_out": 9, "cost": 0.0125},
        "tokens_per_second": 1234.5, "seconds": 61.2,
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary))
    assert report_verb(ReportOptions(str(write_rows(run, records)))) == 0
    said, page = capsys.readouterr().out, Reader((run / "report.html").read_text())
    marked = (run / "figures.md").read_text()
    for text in (said, marked, page.text):
        for words in ("62.5%", "75.0%", "90.0%", "0.250", "1,234", "5,678", "0.013", "number", "tokens a second"):
            assert words in text
    assert "1,234 tokens a second, 61 seconds in all" in said and "[50.0, 87.5]" in said and "<m>" not in marked
    assert page.text.count("Judge: right, <m> says True") == 10 and "Judge: no verdict, HTTP 500" in page.text
    assert page.text.count("Rules: ") == 11
    for wrong in ({"judge": {"kappa": "high"}}, {"judge": 3}, {"profiles": "x"}):
        with pytest.raises(InputError):
            table(wrong)


def test_figures_of_a_judge_say_that_they_are_its(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the sentence, the tables and the plot; the control is graded by the rules. And each kind has its filter."""
    records = rows_of(run)
    for record in records:
        record["rule"] = {"correct": record["correct"], "reason": "the same words"}
    records[0] |= {"correct": None, "judge": {"correct": None, "reason": "HTTP 500", "model": "<m>"}}
    records[1] |= {"correct": False, "parsed": False}
    records[2] |= {"correct": False, "answer": None, "no_answer": True, "reason": "no answer"}
    kinds = ["ungraded", "unparsed", "no_answer"]
    judged = {"model": "<m>", "primary": True, "accuracy": {"overall": 0.5}, "interval": {"overall": [0.4, 0.6]}}
    (run / "summary.json").write_text(json.dumps({**summarise(records), "judge": judged}))
    assert report_verb(ReportOptions(str(write_rows(run, records)))) == 0
    said, page = capsys.readouterr().out, Reader((run / "report.html").read_text())
    for text in (said.splitlines()[0], page.text, (run / "figures.md").read_text()):
        assert "accuracy by the judge" in text and "text-only control by the rules" in text
    assert "right (95% interval" in page.text and ", by the verdicts of the judge <m>." in page.text
    assert "Share of right answers, by the judge." in page.text and "% by the rules" in page.text
    assert [a["data-verdict"] for a in page.all("article")][:3] == kinds
    values = {field["value"] for field in page.all("input") if field["name"] == "verdict"}
    assert values == {"", "right", "wrong", "failed", *kinds} and "Answer ungraded: " in page.text
    assert "answered" not in values and page.text.count("✗No answer") == 1 and "No answer: no" not in page.text
    judged["primary"] = False
    assert "by the judge" not in table({**summarise(records), "judge": judged})


def test_several_samples_of_a_question_are_one_question(run: Path) -> None:
    records = [record | {"sample": sample} for record in rows_of(run)[:4] for sample in range(3)]
    (run / "summary.json").write_text(json.dumps(summarise(records)))
    page = read(write_rows(run, records))
    assert "of 4 questions right" in page.text and "A question has 3 answers on average" in page.text
    assert "sample 3" in page.text and len(page.all("article")) == 12


def test_the_table_leaves_out_what_a_run_has_no_figures_for() -> None:
    assert table({"accuracy": {"overall": 0.5}, "tokens_per_second": 3.0}) == "         accuracy\noverall  50.0%"
    assert table({"rows": 3, "seconds": 2.0}) == ""
    assert "\x1b" not in table({"accuracy": {"overall": 0.5, "\x1b[2J": 0.5}})
