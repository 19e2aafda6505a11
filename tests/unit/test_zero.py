"""Bootstrapping on a tiny checkpoint: what is drawn and taken, what is written, and that it is the same every time."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from corpora import cell, m3cot_row, picture, write_lines, write_m3cot
from omni_r1 import shipped
from omni_r1.cli import main
from omni_r1.data.shards import TokenDataset
from omni_r1.errors import InputError
from omni_r1.generate import TransformersBackend, runner
from omni_r1.grammar import Grammar
from omni_r1.model import load
from omni_r1.perpo.reward import Band
from omni_r1.perpo.reward.perception import code_distances
from omni_r1.trajectory import Image, Text
from omni_r1.vocabulary import Vocabulary
from omni_r1.zero import run as zero
from omni_r1.zero.agreement import Likelihood, answer_gains, step_agreements
from omni_r1.zero.choose import changed, choose, commonest, fault, perception_scores
from omni_r1.zero.draw import Candidate, Traced, captions, draw, prompt_of, trace
from omni_r1.zero.options import BootstrapOptions
from omni_r1.zero.validate import validate
from shard_folders import content
from tiny import write_checkpoint
from zero_rows import chains, drawings

NEEDED = {"input": "i", "format": "jsonl", "model_path": "m", "output_path": "o"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def omni(checkpoint):
    return load(checkpoint)


@pytest.fixture
def run(checkpoint, omni, monkeypatch):
    """`run(input, output, *options)`; its exit code. The checkpoint is loaded once."""
    monkeypatch.setattr(runner, "load", lambda *_, **__: omni)

    def run(source, output, *more, form="jsonl"):
        words = ["--input", str(source), "--format", form, "--model-path", str(checkpoint)]
        return main(["bootstrap", *words, "--output-path", str(output), "--chunk-size", "4", *more])

    return run


def row(**changed) -> Traced:
    question = (Text("What? "), Image(tuple(range(16))))
    return replace(Traced("a", question, ("I look.", "I see."), "", "red"), **changed)


def one(*codes: int, **changed) -> Candidate:
    return replace(Candidate(codes, 0, -1.0), **changed)


def test_what_is_written_is_what_a_trainer_reads(run, omni, tmp_path):
    source = chains(tmp_path / "in", 10)
    assert run(source, tmp_path / "out", "--do-sample", "--candidates", "2") == 0
    rows = TokenDataset(tmp_path / "out", omni.vocabulary)
    told = drawings(tmp_path / "out")
    assert len(rows) == 8 and len(told) == 2 * sum(number % 3 + 1 for number in range(10) if number % 7)
    for index in range(len(rows)):
        ids = rows[index]["input_ids"].tolist()
        number = int(rows[index]["name"].rpartition("row ")[2].rstrip(")"))
        first = int((rows[index]["labels"] != -100).int().argmax())
        found = omni.vocabulary.parse(ids, first)
        taken = [each for each in told if each["id"] == f"row {number}" and each["taken"]]
        assert [list(image.codes) for image in found.response_images] == [each["codes"] for each in taken]
        thoughts = "\n".join(f"THOUGHT {k}: I look at {k} of {number}. <image_{k}>" for k in range(1, number % 3 + 2))
        assert found.response_text == f"{thoughts}\nFinal Answer: {number}"
        assert not Grammar(omni.vocabulary).violations(ids, first)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["validated"] == {"rows": 8, "passed": 8, "faults": {}}
    assert manifest["counts"]["rejected"] == {"empty-answer": 2} and manifest["counts"]["target_images"] == 16


@pytest.mark.parametrize("draw_as", ["trace", "caption"])
@pytest.mark.parametrize("template", ["plain", "templated"])
def test_a_drawing_stands_behind_what_is_written_before_it(omni, draw_as, template):
    options = BootstrapOptions(**NEEDED, draw_as=draw_as, template=template)
    drawn = row(drawings=[Image((3,) * 16)])
    ids = prompt_of(drawn, options, omni.vocabulary)
    whole = [Image((3,) * 16), Image((5,) * 16)]
    laid_out = captions(drawn, whole) if draw_as == "caption" else trace(drawn, whole, template)
    rendered = omni.vocabulary.render(laid_out).ids
    assert ids[-1] == omni.vocabulary.boi and rendered[: len(ids)] == ids
    tokens = omni.vocabulary.codes_to_tokens(torch.tensor([[5] * 16]))[0].tolist()
    assert rendered[len(ids) : len(ids) + 17] == [*tokens, omni.vocabulary.eoi]


def test_captions_have_no_question(omni):
    text = captions(row(), [Image((3,) * 16)])
    assert [part.text for part in text.prompt if isinstance(part, Text)] == ["\n"]
    assert text.response[0] == Text("Figure 1: I look. ")
    assert captions(row(question=(Text("What?"),)), [None]).prompt == ()


def test_candidates_are_those_of_their_seeds_alone(omni):
    backend = TransformersBackend(omni, 4)
    options = BootstrapOptions(**NEEDED, do_sample=True, candidates=3)
    rows = [row(id=str(number), steps=(f"Step {number}.",)) for number in range(5)]
    together, failed = draw(rows, backend, options)
    [alone], _ = draw(rows[3:4], backend, options)
    assert not failed
    assert [(each.codes, each.seed) for each in alone] == [(each.codes, each.seed) for each in together[3]]
    assert len({each.seed for found in together for each in found}) == 15
    assert all(len(each.codes) == 16 and each.confidence < 0 for found in together for each in found)
    assert {each.votes for each in draw(rows, backend, BootstrapOptions(**NEEDED))[0][0]} == {1.0}


def test_scores_and_faults():
    assert commonest((1, 1, 1, 2)) == 0.75
    assert changed((1, 2, 3, 4), [Image((1, 2, 3, 5)), Image((0, 0, 0, 0))]) == 0.25 and changed((1,), []) == 1
    given = one(1, 1, 1, 2, perception=0.3, changed=0.25, votes=0.5, agreement=-0.1, answer_gain=0.2)
    for name, value, reason in [
        ("max_flat", 0.7, "flat"),
        ("min_perception", 0.4, "unlike-pictures"),
        ("min_changed", 0.3, "copy"),
        ("min_confidence", -0.5, "unsure"),
        ("min_votes", 0.6, "disputed"),
        ("min_agreement", 0.0, "disagrees"),
        ("min_answer_gain", 0.5, "answer-unmoved"),
    ]:
        assert fault(given, BootstrapOptions(**NEEDED, **{name: value})) == reason
    assert fault(given, BootstrapOptions(**NEEDED)) is None
    assert fault(one(1, 2), BootstrapOptions(**NEEDED, min_perception=0.9)) is None


def test_which_one_is_taken():
    found = [
        one(1, votes=0.25, confidence=-0.1, agreement=0.2, answer_gain=2.0),
        one(2, votes=0.5, confidence=-0.3, agreement=0.9, answer_gain=-1.0),
        one(2, votes=0.5, confidence=-0.2, agreement=0.8, answer_gain=1.0),
    ]
    sound = [None] * 3
    ways = ("first", "confidence", "votes", "agreement", "answer")
    assert [choose(found, sound, by) for by in ways] == [0, 0, 2, 1, 0]
    early = [replace(each, answer_gain=None) for each in found]
    assert choose(early, sound, "answer") == 2
    assert choose(found, ["flat", None, "flat"], "votes") == 1 and choose(found, ["flat"] * 3, "first") is None
    assert choose([found[2], found[2]], sound[:2], "votes") == 0


def test_perception_scores_are_the_band_s(omni):
    codebook = omni.model.model.vqmodel.quantize.embedding.weight.detach()
    generator = torch.Generator().manual_seed(0)
    band = Band.learn(torch.randint(64, (200, 16), generator=generator), codebook)
    usual, flat = perception_scores([one(*range(16)), one(*[3] * 16)], band, code_distances(codebook))
    assert usual > 0.5 > flat


def test_likelihoods_are_those_of_the_sampler(omni):
    likely = Likelihood(omni, 2)
    options = BootstrapOptions(**NEEDED, do_sample=True, candidates=3)
    rows = [row(id=str(number)) for number in range(2)]
    drawn, _ = draw(rows, TransformersBackend(omni, 8), options)
    for each, candidates in zip(rows, drawn, strict=True):
        before = prompt_of(each, options, omni.vocabulary)
        tokens = [omni.vocabulary.codes_to_tokens(torch.tensor([one.codes]))[0].tolist() for one in candidates]
        for value, candidate in zip(likely([(before, each) for each in tokens]), candidates, strict=True):
            assert value / 16 == pytest.approx(candidate.confidence, abs=1e-4)
    agreements = step_agreements(rows, drawn, options, likely)
    assert all(value for found in agreements for value in found)
    finished = [replace(each, drawings=[Image((3,) * 16)] * 2) for each in rows]
    gains = answer_gains(finished, options, likely)
    assert len(gains) == 2 and all(map(torch.tensor(gains).isfinite().tolist().__getitem__, range(2)))
    assert answer_gains(finished, replace(options, template="templated"), likely) != gains


@pytest.mark.parametrize("template", ["plain", "templated"])
@pytest.mark.parametrize("answer", ["blue", "B", "7", "12", "1", "s", "(3, 4)", "-2.5", "a buoy"])
def test_the_answer_is_what_is_asked_for(template, answer):
    """The words of the conclusion, which say it already, are in neither part."""
    vocabulary = Vocabulary.from_checkpoint(shipped.MODEL)
    drawn = row(answer=answer, conclusion=f"The answer is {answer}.", question=(Text("What? "),))
    pictures = [Image((3,) * 64)] * 2
    whole = vocabulary.render(trace(replace(drawn, conclusion=""), pictures, template)).ids
    asked: list = []

    def likely(pairs):
        asked.extend(pairs)
        return [2.0, 0.5]

    likely.vocabulary = vocabulary
    gains = answer_gains([replace(drawn, drawings=pictures)], BootstrapOptions(**NEEDED, template=template), likely)
    assert gains == [1.5]
    (before, after), (unseen, same) = asked
    said = vocabulary.tokenizer.decode(after, skip_special_tokens=True)
    assert said.replace("<reserved12867>", "").strip() == answer and after == same and before + after == whole
    assert vocabulary.boi in before and vocabulary.boi not in unseen


def test_m3cot_rows_whose_reasoning_goes_elsewhere(run, tmp_path):
    rows = [
        m3cot_row(id="right"),
        m3cot_row(id="wrong", rationale="It is cold.\n(A) stone is correct answer"),
        m3cot_row(id="silent", rationale=""),
        m3cot_row(id="broken", image=cell(picture(4)[:60])),
    ]
    source = write_m3cot(tmp_path / "in" / "train-0.parquet", rows)
    assert run(source, tmp_path / "out", "--template", "templated", form="m3cot") == 0
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").open()]
    found = {each["id"]: each["reason"] for each in rejects}
    assert found == {"wrong": "answer-not-reached", "silent": "no-rationale", "broken": "broken-image"}
    [only] = drawings(tmp_path / "out")
    assert only["words"] == "It is warm." and only["taken"] and only["written"]
    shard = pq.read_table(tmp_path / "out" / "shards" / "00000.parquet")
    assert shard.column("options").to_pylist() == [["stone", "ice"]]  # for PeRPO to grade by
    assert run(source, tmp_path / "all", "--no-reaches-answer", form="m3cot") == 0
    assert {each["id"] for each in drawings(tmp_path / "all")} == {"right", "wrong"}


def test_what_filters_drop_is_told(run, tmp_path):
    source = chains(tmp_path / "in", 6)
    assert run(source, tmp_path / "all") == 0
    scores = sorted(each["scores"]["confidence"] for each in drawings(tmp_path / "all"))
    least = (scores[1] + scores[2]) / 2  # they are rounded
    assert run(source, tmp_path / "out", "--min-confidence", str(least)) == 0
    told = drawings(tmp_path / "out")
    rejects = {each["id"]: each for each in map(json.loads, (tmp_path / "out" / "rejects.jsonl").open())}
    dropped = {name for name, each in rejects.items() if each["reason"] == "unsure"}
    assert dropped and {each["id"] for each in told if not each["written"]} == dropped
    assert all((each["reason"] == "unsure") == (each["scores"]["confidence"] < least) for each in told)
    assert all(each["taken"] == (each["reason"] is None) for each in told)


def test_the_answer_decides_among_the_last_drawings(run, tmp_path):
    more = ("--do-sample", "--candidates", "3", "--choose-by", "answer")
    assert run(chains(tmp_path / "in", 6), tmp_path / "out", *more) == 0
    told = drawings(tmp_path / "out")
    assert any("answer_gain" in each["scores"] for each in told)
    for name in {each["id"] for each in told}:
        last = max(each["step"] for each in told if each["id"] == name)
        of = [each for each in told if each["id"] == name and "answer_gain" in each["scores"]]
        assert {each["step"] for each in of} == {last} and len(of) == 3
        gains = [each["scores"]["answer_gain"] for each in of]
        assert [gain for each, gain in zip(of, gains, strict=True) if each["taken"]] == [max(gains)]


def test_drawings_that_are_there_already_are_not_redrawn(run, tmp_path):
    file = chains(tmp_path / "in", 3)
    drawn = {"id": "d", "prompt": "?", "rationale": "So <image>", "rationale_images": ["none.png"], "answer": "1"}
    write_lines(file, [*file.read_text().splitlines(), drawn])
    assert run(file, tmp_path / "out") == 0
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").open()]
    assert rejects[-1]["reason"] == "drawn-already" and rejects[-1]["row"] == 4


def test_an_answer_that_nothing_equals_is_not_drawn_for(run, tmp_path):
    file = chains(tmp_path / "in", 3)
    told = {"prompt": "?", "rationale": "I look at it.", "answer": "N/A"}
    lines = "of\ntwo lines"
    write_lines(file, [*file.read_text().splitlines(), told | {"id": "a"}, told | {"id": "b", "answer": lines}])
    assert run(file, tmp_path / "out") == 0
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").open()]
    assert [each["reason"] for each in rejects if each["id"] in "ab"] == ["answer-ungradable"] * 2


def test_a_rationale_that_is_laid_out_already_is_not_drawn_for(run, omni, tmp_path):
    said = ["I look.\nI see.\nFinal Answer: red", "<answer>red</answer> it is.\nI look at it.", "I see <image> there."]
    said.append("Final Answer: red")
    rows = [
        {"id": i, "prompt": "Which?", "rationale": text, "answer": "red"} for i, text in zip("abcd", said, strict=True)
    ]
    assert run(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out") == 0
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").open()]
    reasons = {each["id"]: each["reason"] for each in rejects}
    assert reasons == {"b": "marked-up", "c": "marked-up", "d": "no-rationale"}
    row = TokenDataset(tmp_path / "out", omni.vocabulary)[0]
    first = int((row["labels"] != -100).int().argmax())
    assert omni.vocabulary.parse(row["input_ids"].tolist(), first).response_text.count("red") == 1


def test_a_row_that_cannot_be_drawn_is_dropped(run, tmp_path, monkeypatch):
    source, real = chains(tmp_path / "in", 6), zero.draw

    def failing(rows, backend, options):
        found, _ = real(rows, backend, options)
        failed = {place: "logits are not finite" for place, each in enumerate(rows) if each.id == "row 4"}
        return [[] if place in failed else found[place] for place in range(len(rows))], failed

    assert run(source, tmp_path / "all") == 0
    monkeypatch.setattr(zero, "draw", failing)
    assert run(source, tmp_path / "out") == 0
    rejects = {each["id"]: each for each in map(json.loads, (tmp_path / "out" / "rejects.jsonl").open())}
    assert rejects["row 4"]["reason"] == "not-drawn" and "step 1: logits are" in rejects["row 4"]["message"]
    others = [each for each in drawings(tmp_path / "all") if each["id"] != "row 4"]
    assert others == drawings(tmp_path / "out")


def test_no_more_rows_than_are_wanted(run, omni, tmp_path):
    """The others are not read, and so are neither rejects nor told of."""
    wanted = ("--max-rows", "5", "--max-rejects", "1")
    assert run(chains(tmp_path / "in", 12), tmp_path / "out", *wanted) == 0
    assert len(TokenDataset(tmp_path / "out", omni.vocabulary)) == 5
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts["written"] == 5 and counts["read"] == 6 and counts["rejected"] == {"empty-answer": 1}
    log = [json.loads(line) for line in (tmp_path / "out" / "progress.jsonl").open()]
    assert [line["position"] for line in log] == [
        [0, 4],
        [0, 6],
    ]  # in chunks of four, but never of more than are wanted
    assert all(each["written"] for each in drawings(tmp_path / "out"))
    folder = shutil.copytree(tmp_path / "out", tmp_path / "killed")
    (folder / "manifest.json").unlink()
    (folder / "progress.jsonl").write_text(json.dumps(log[0]) + "\n")
    assert run(tmp_path / "in" / "rows.jsonl", folder, *wanted) == 0
    assert content(folder) == content(tmp_path / "out")


def test_files_of_others_are_left_alone(run, tmp_path, capsys):
    source, folder = chains(tmp_path / "in", 3), tmp_path / "out" / "drawings"
    folder.mkdir(parents=True)
    (folder / "mine.png").write_bytes(picture(1))
    assert run(source, tmp_path / "out") == 2
    assert "field 'output_path': has files that no run tells of" in capsys.readouterr().err
    assert (folder / "mine.png").exists()
    assert run(source, tmp_path / "two") == 0
    (tmp_path / "two" / "drawings" / "mine.png").write_bytes(picture(1))
    (tmp_path / "two" / "drawings" / "00009.jsonl").write_text("")
    assert run(source, tmp_path / "two") == 0
    assert {file.name for file in (tmp_path / "two" / "drawings").iterdir()} == {"00000.jsonl", "mine.png"}


def test_going_on_and_what_is_refused(run, tmp_path, capsys):
    source = chains(tmp_path / "in", 10)
    assert run(source, tmp_path / "whole") == 0
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "part")
    lines = (folder / "progress.jsonl").read_text().splitlines(keepends=True)
    (folder / "progress.jsonl").write_text("".join(lines[:2]))
    (folder / "drawings" / "00001.jsonl").write_text("damaged")
    assert run(source, folder) == 0
    assert content(folder) == content(tmp_path / "whole")
    capsys.readouterr()
    assert run(source, folder, "--draw-as", "caption") == 2
    assert 'field \'draw_as\': was "trace" there, not "caption"' in capsys.readouterr().err
    assert run(source, folder) == 0 and "was finished already" in capsys.readouterr().out
    (folder / "shards" / "00001.parquet").write_bytes(b"damaged")
    assert run(source, folder) == 0 and content(folder) == content(tmp_path / "whole")
    said = capsys.readouterr()
    assert "shard 1 is not as it was written: made anew" in said.err and f"see {folder}" in said.out
    lines = (folder / "progress.jsonl").read_text().splitlines(keepends=True)
    (folder / "progress.jsonl").write_text("".join([*lines, lines[-1]]))
    assert run(source, folder) == 2  # as two runs would have written at once, had nothing stopped them
    told = f"progress.jsonl:{len(lines) + 1}: field 'file': tells of 0000{len(lines) - 1}.parquet, not of 0000"
    assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_draw_what_one_does(checkpoint, tmp_path):
    source = chains(tmp_path / "in", 10)
    words = ["bootstrap", "--input", str(source), "--format", "jsonl", "--model-path", str(checkpoint)]
    more = ["--chunk-size", "4", "--do-sample", "--candidates", "2"]
    for name, device in (("one", "cpu"), ("two", "cpu,cpu")):
        assert main([*words, *more, "--output-path", str(tmp_path / name), "--device", device]) == 0
    shards = {path.name: path.read_bytes() for path in (tmp_path / "one" / "shards").iterdir()}
    assert shards == {path.name: path.read_bytes() for path in (tmp_path / "two" / "shards").iterdir()}


def test_validation_finds_what_is_wrong(run, omni, tmp_path):
    source = chains(tmp_path / "in", 6)
    assert run(source, tmp_path / "out") == 0
    assert validate(tmp_path / "out", omni).faults == {}
    file = tmp_path / "out" / "drawings" / "00000.jsonl"
    before = file.read_text()
    file.write_text(before.replace('"answer": "2"', '"answer": "9"'))
    assert list(validate(tmp_path / "out", omni).faults) == ["row 2"]
    file.write_text(before.replace('"codes": [', '"codes": [63, '))
    assert "its 1 drawings are not the 1 that were taken" in validate(tmp_path / "out", omni).faults["row 3"]
    file.write_text("")
    assert validate(tmp_path / "out", omni).faults["row 1"] == "nothing is told of its drawings"


def test_no_drawing_of_a_step_is_read(run, tmp_path):
    """Pictures that belong to no question are never opened, those of a row's own steps neither, and make no difference
    when they go."""
    source = chains(tmp_path / "in", 6)
    drawn = {"id": "d", "prompt": "?", "rationale": "So <image>", "rationale_images": ["steps/0.png"], "answer": "1"}
    write_lines(source, [*source.read_text().splitlines(), drawn])
    (tmp_path / "in" / "steps").mkdir()
    for number in range(3):
        (tmp_path / "in" / "steps" / f"{number}.png").write_bytes(picture(50 + number))
    opened: list[str] = []
    watching = True

    def hook(event, arguments):
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append(arguments[0])

    sys.addaudithook(hook)
    assert run(source, tmp_path / "one") == 0
    watching = False
    pictures = {path for path in opened if path.endswith(".png")}
    assert pictures == {str(tmp_path / "in" / f"{number}.png") for number in range(3)}
    shutil.rmtree(tmp_path / "in" / "steps")
    assert run(source, tmp_path / "two") == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"candidates": 2}, "candidates"),
        ({"min_votes": 1.5}, "min_votes"),
        ({"max_flat": -0.1}, "max_flat"),
        ({"min_changed": float("nan")}, "min_changed"),
        ({"min_confidence": 0.5}, "min_confidence"),
        ({"min_agreement": float("inf")}, "min_agreement"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_rejects": float("nan")}, "max_rejects"),
        ({"draw_as": "caption", "min_answer_gain": 0.0}, "min_answer_gain"),
        ({"draw_as": "caption", "choose_by": "answer"}, "choose_by"),
        ({"temperature": 0.5}, "do_sample"),
        ({"device": "cuda:0,"}, "device"),
    ],
)
def test_options_that_contradict(changed, field):
    with pytest.raises(InputError, match=f"field '{field}'"):
        BootstrapOptions(**NEEDED, **changed)


def test_a_band_that_is_not_there(run, tmp_path, capsys):
    assert run(chains(tmp_path / "in", 3), tmp_path / "out", "--min-perception", "0.1") == 2
    assert "field 'min_perception': needs a perception_band.json, or band questions" in capsys.readouterr().err
    assert run(chains(tmp_path / "in", 3), tmp_path / "two", "--min-perception", "0", "--band", "questions") == 0
