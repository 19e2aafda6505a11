"""The verb: what is in its folder, that nothing about how changes it, and what it says."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as PilImage

from corpora import GAMES, SEARCH, m3cot_row, named, own_rows, picture, write_lines, write_m3cot, zebra, zebra_row
from omni_r1.cli import main
from omni_r1.data import tokenize
from omni_r1.data.codes import PictureCodes, open_codes
from omni_r1.data.shards import IGNORED, TokenDataset
from omni_r1.errors import InputError
from omni_r1.model import load, vq
from omni_r1.trajectory import TAGS, Image, Text
from omni_r1.vocabulary import Vocabulary
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def omni(checkpoint):
    return load(checkpoint)


@pytest.fixture
def run(checkpoint, omni, monkeypatch):
    """`run(input, format, output, *options)`; its exit code. The checkpoint is loaded once."""
    monkeypatch.setattr(tokenize, "load", lambda *_, **__: omni)

    def run(source, form, output, *more):
        words = ["--input", str(source), "--format", form, "--model-path", str(checkpoint)]
        return main(["tokenize", *words, "--output-path", str(output), *more])

    return run


def content(folder: Path) -> dict[str, bytes]:
    """All that must be the same whenever the same is asked for."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", "codes.sqlite")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(folder: Path) -> list[dict]:
    return [row for file in sorted(folder.glob("shards/*")) for row in pq.read_table(file).to_pylist()]


def rejects_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def test_what_became_of_each_row(run, tmp_path, capsys):
    """The table, the rejects and the shards tell of every row of the ten, and of each exactly once."""
    expected = zebra(tmp_path / "zebra")
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "out") == 0
    told = {row["id"]: "written" for row in rows_of(tmp_path / "out")}
    told |= {reject["id"]: reject["reason"] for reject in rejects_of(tmp_path / "out")}
    assert told == expected
    assert [reject["row"] for reject in rejects_of(tmp_path / "out")] == [2, 3, 4, 5, 3, 1, 2]
    shown = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines()[:-1])
    assert shown["rows read"] == "10" and shown["rows written"] == "3" and shown["rows rejected"] == "7"
    reasons = Counter(outcome for outcome in expected.values() if outcome != "written")
    assert {name.strip(): int(shown[name]) for name in shown if name.strip() in reasons} == reasons
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["rejected"] == reasons and manifest["counts"]["read"] == 10
    assert manifest["source"]["licence"] == "cc-by-nc-4.0"
    assert manifest["source"]["configs"] == [SEARCH, GAMES] and manifest["warnings"] == []


def test_codes_are_those_of_the_model(run, tmp_path, omni):
    zebra(tmp_path / "zebra")
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "out") == 0
    [row] = [row for row in rows_of(tmp_path / "out") if row["id"] == f"{GAMES}:1"]
    files = [picture(1, "PNG", "RGBA"), picture(2, "JPEG"), picture(3, "WEBP")]
    expected = omni.encode([PilImage.open(io.BytesIO(data)) for data in files])
    vocabulary, ids = omni.vocabulary, row["input_ids"]
    assert len(row["image_spans"]) == 3
    for (start, end), tokens in zip(row["image_spans"], expected.tolist(), strict=True):
        assert ids[start:end] == [vocabulary.boi, *tokens, vocabulary.eoi]
    boundary = row["loss_mask"].index(True)
    assert row["loss_mask"] == [False] * boundary + [True] * (len(ids) - boundary)
    trajectory = vocabulary.parse(ids, boundary)
    assert [part.text for part in trajectory.prompt if isinstance(part, Text)] == ["Which move? ", "\n"]
    assert trajectory.ended and trajectory.response_text == (
        "THOUGHT 3: look. <image_1> THOUGHT N: move. <image_2>\nFinal Answer: Qh5"
    )
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    rows = rows_of(tmp_path / "out")
    assert counts["tokens"] == sum(len(each["input_ids"]) for each in rows)
    assert counts["target_tokens"] == sum(sum(each["loss_mask"]) for each in rows)
    assert counts["images"] == sum(len(each["image_spans"]) for each in rows) == 8
    assert counts["target_images"] == 5


def test_how_changes_no_byte(run, tmp_path):
    own_rows(tmp_path / "own", 23, pictures=5)
    common = ["--rows-per-shard", "4"]
    assert run(tmp_path / "own", "jsonl", tmp_path / "one", *common, "--batch-size", "1") == 0
    one = content(tmp_path / "one")
    assert len([name for name in one if name.startswith("shards/")]) == 5
    for number, more in enumerate((["--batch-size", "3"], ["--batch-size", "64"], ["--workers", "2"])):
        folder = tmp_path / str(number)
        assert run(tmp_path / "own", "jsonl", folder, *common, *more) == 0
        assert content(folder) == one
    cache = ["--cache-path", str(tmp_path / "deep" / "cache.sqlite")]
    assert run(tmp_path / "own", "jsonl", tmp_path / "first", *common, *cache) == 0
    assert run(tmp_path / "own", "jsonl", tmp_path / "again", *common, *cache) == 0
    assert content(tmp_path / "first") == content(tmp_path / "again") == one
    assert not (tmp_path / "again" / "codes.sqlite").exists()


def test_the_second_run_encodes_nothing(run, tmp_path, capsys):
    zebra(tmp_path / "zebra")
    cache = ["--cache-path", str(tmp_path / "cache.sqlite")]
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "one", *cache) == 0
    assert "pictures encoded now                  7\n" in capsys.readouterr().out
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "two", "--mode", "templated", *cache) == 0
    shown = capsys.readouterr().out
    assert "pictures encoded now                  0\n" in shown and "  known already                       9\n" in shown


def test_the_cache_is_of_one_vq(omni, tmp_path):
    pictures = open_codes(omni, tmp_path / "c", batch_size=2, workers=0)
    key = pictures.ask(picture(1))
    pictures.encode()
    codes = pictures.known[key]
    pictures.close()
    module = omni.model.model.vqmodel
    before = vq.digest(module)
    for name in ("quantize.embedding.weight", "quant_conv.bias", "encoder.conv_in.weight"):
        tensor = module.get_parameter(name).data.view(-1)
        kept, tensor[0] = tensor[0].clone(), 3.0
        assert vq.digest(module) != before
        other = open_codes(omni, tmp_path / "c", batch_size=2, workers=0)
        assert other.ask(picture(1)) == key and key not in other.known
        other.close()
        tensor[0] = kept
    kept, module.decoder.conv_in.bias.data[0] = module.decoder.conv_in.bias.data[0].clone(), 3.0
    assert vq.digest(module) == before  # it draws and does not see
    module.decoder.conv_in.bias.data[0] = kept
    again = open_codes(omni, tmp_path / "c", batch_size=2, workers=0)
    again.ask(picture(1))
    assert again.known[key] == codes and again.hits == 1
    again.forget(key)
    assert not again.known and not again.users
    again.close()


def test_a_short_batch_is_filled_up(omni, tmp_path, monkeypatch):
    sizes = []
    encode = vq.encode_images
    monkeypatch.setattr(
        "omni_r1.data.codes.encode_images", lambda vq, images, at: sizes.append(len(images)) or encode(vq, images, at)
    )
    cache = open_codes(omni, tmp_path / "c", batch_size=4, workers=0).cache
    pictures = PictureCodes(omni, cache, batch_size=4, workers=0, fill=True)
    keys = [pictures.ask(picture(number)) for number in range(6)]
    while pictures.busy:
        pictures.encode()
    expected = omni.encode([PilImage.open(io.BytesIO(picture(number))) for number in range(6)])
    assert sizes == [4, 4] and pictures.encoded == 6
    found = torch.tensor([pictures.known[key] for key in keys])
    assert torch.equal(omni.vocabulary.codes_to_tokens(found), expected)


def test_a_cache_that_is_none(run, tmp_path, capsys):
    source = own_rows(tmp_path / "own", 3)
    (tmp_path / "cache").write_bytes(b"no database" * 100)
    assert run(source, "jsonl", tmp_path / "out", "--cache-path", str(tmp_path / "cache")) == 2
    assert "cache: field 'cache_path': cannot be used: file is not a database" in capsys.readouterr().err
    assert run(source, "jsonl", tmp_path / "out") == 0
    with sqlite3.connect(tmp_path / "out" / "codes.sqlite") as cache:
        cache.execute("UPDATE codes SET codes = x'00'")
    assert run(source, "jsonl", tmp_path / "o2", "--cache-path", str(tmp_path / "out" / "codes.sqlite")) == 2
    assert "another number of codes" in capsys.readouterr().err


def test_templated(run, tmp_path, omni):
    source = own_rows(tmp_path / "own", 20)
    leads = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        assert run(source, "jsonl", folder, "--mode", "templated", "--seed", str(seed)) == 0
        rows = rows_of(folder)
        texts = [omni.vocabulary.parse(row["input_ids"], row["loss_mask"].index(True)).response_text for row in rows]
        assert texts[0].endswith(f"It is <image_1> here.{TAGS[1]}{TAGS[2]}1{TAGS[3]}")
        leads.append([text.partition("<")[0] for text in texts])
    assert len(set(leads[0])) > 3 and leads[0] != leads[1]


def test_templated_needs_the_tags(run, tmp_path, omni, monkeypatch, capsys):
    lacking = dataclasses.replace(omni.vocabulary, tags={})
    monkeypatch.setattr(tokenize, "load", lambda *_, **__: dataclasses.replace(omni, vocabulary=lacking))
    assert run(own_rows(tmp_path / "own", 3), "jsonl", tmp_path / "out", "--mode", "templated") == 2
    assert "field 'mode': the checkpoint's tokenizer has no <reserved12856>" in capsys.readouterr().err


def test_without_rationale(run, tmp_path, capsys):
    source = own_rows(tmp_path / "own", 9)
    assert run(source, "jsonl", tmp_path / "out", "--no-plain-include-rationale") == 0
    said = capsys.readouterr().err
    assert "warning: plain_include_rationale is off" in said
    assert "warning: no image is a target: PeSFT on this does not learn to draw" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["target_images"] == 0 and len(manifest["warnings"]) == 1
    assert main(["tokenize", "--mode", "templated", "--no-plain-include-rationale"]) == 2


def test_m3cot_has_no_target_images(run, tmp_path, capsys):
    write_m3cot(tmp_path / "train.parquet", [m3cot_row(), m3cot_row(id="2", rationale="")])
    assert run(tmp_path, "m3cot", tmp_path / "out") == 0
    assert "no image is a target" in capsys.readouterr().err
    assert [reject["reason"] for reject in rejects_of(tmp_path / "out")] == ["no-rationale"]


def test_choices_go_with_a_row(run, tmp_path, omni):
    write_m3cot(tmp_path / "train.parquet", [m3cot_row()])
    assert run(tmp_path, "m3cot", tmp_path / "out") == 0
    assert TokenDataset(tmp_path / "out", omni.vocabulary)[0]["options"] == ["stone", "ice"]
    row = {"prompt": "Q", "rationale": "R", "answer": "A"}
    source = write_lines(tmp_path / "own.jsonl", [row, row | {"options": ["x", "y"]}, row | {"options": "x, y"}])
    assert run(source, "jsonl", tmp_path / "own") == 0
    written = TokenDataset(tmp_path / "own", omni.vocabulary)
    assert [written[place]["options"] for place in range(len(written))] == [None, ["x", "y"]]
    [reject] = rejects_of(tmp_path / "own")
    assert (reject["row"], reject["field"], reject["message"]) == (3, "options", "must be a list of texts")


def test_too_long(run, tmp_path):
    source = own_rows(tmp_path / "own", 6)
    assert run(source, "jsonl", tmp_path / "all") == 0
    lengths = {row["id"]: len(row["input_ids"]) for row in rows_of(tmp_path / "all")}
    most = sorted(lengths.values())[2]
    assert run(source, "jsonl", tmp_path / "out", "--max-length", str(most)) == 0
    assert [row["id"] for row in rows_of(tmp_path / "out")] == [name for name in lengths if lengths[name] <= most]
    late = {reject["id"]: reject for reject in rejects_of(tmp_path / "out") if reject["reason"] == "too-long"}
    assert set(late) == {name for name in lengths if lengths[name] > most}
    assert all(each["message"] == f"{lengths[name]} tokens, more than max_length {most}" for name, each in late.items())
    assert run(source, "jsonl", tmp_path / "short", "--max-length", "30") == 2  # each row has a picture or two
    [early] = {each["message"] for each in rejects_of(tmp_path / "short") if "alone" in each["message"]}
    assert early == "36 tokens in pictures alone, more than max_length 30"


def test_no_row_is_an_error(run, tmp_path, capsys):
    file = write_lines(tmp_path / "a.jsonl", [{}, "{"])
    assert run(file, "jsonl", tmp_path / "out") == 2
    assert "no row can be used, of 2 (malformed 1, no-question 1)" in capsys.readouterr().err
    assert run(write_lines(tmp_path / "b.jsonl", []), "jsonl", tmp_path / "out2") == 2
    assert "b.jsonl: field 'input': no rows" in capsys.readouterr().err
    for folder in ("out", "out2"):
        assert not (tmp_path / folder / "manifest.json").exists()


@pytest.mark.parametrize(("most", "code"), [("7", 0), ("6", 2), ("0.7", 0), ("0.69", 2), ("0", 2)])
def test_max_rejects(run, tmp_path, capsys, most, code):
    zebra(tmp_path / "zebra")
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "out", "--max-rejects", most) == code
    assert (tmp_path / "out" / "manifest.json").exists() == (code == 0)
    assert len(rejects_of(tmp_path / "out")) == 7
    assert ("field 'max_rejects': 7 of 10 rows are rejected" in capsys.readouterr().err) == (code == 2)
    assert run(tmp_path / "zebra", "zebra-cot", tmp_path / "out") == 0  # what is there is kept


def test_many_rejects_in_a_row(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize, "MOST_REJECTS", 3)
    rows = [zebra_row("Q", "T", "A" if number in (8, 9) else "") for number in range(12)]
    file = write_lines(tmp_path / "a.jsonl", rows)
    assert run(file, "zebra-cot", tmp_path / "out") == 0
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["a:9", "a:10"]
    assert [reject["row"] for reject in rejects_of(tmp_path / "out")] == [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]


def test_rows_without_pictures_do_not_pile_up(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize, "MOST_WAITING", 2)
    assert run(own_rows(tmp_path / "own", 9), "jsonl", tmp_path / "out", "--batch-size", "64") == 0
    assert len(rows_of(tmp_path / "out")) == 7


def test_original(run, tmp_path, omni, monkeypatch):
    """No picture is looked at, so no VQ is loaded."""
    monkeypatch.setattr(tokenize, "load", None)
    codes = omni.vocabulary.codes[5:21].tolist()
    row = zebra_row(f"Q {named('a')}", f"T {named('b')}", "A", a=codes, b=[omni.vocabulary.boi, *codes[::-1]])
    write_lines(tmp_path / "json" / "one.jsonl", [row, row | {"b": codes[:3]}])
    assert run(tmp_path / "json", "original", tmp_path / "out") == 0
    [written] = rows_of(tmp_path / "out")
    images = omni.vocabulary.parse(written["input_ids"], written["loss_mask"].index(True)).images
    assert images == [Image(tuple(range(5, 21))), Image(tuple(range(20, 4, -1)))]
    assert rejects_of(tmp_path / "out")[0]["reason"] == "image-length"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["vq"] is None


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (["--mode", "templated"], "mode"),
        (["--max-length", "99"], "max_length"),
        (["--limit", "3"], "limit"),
        (["--rows-per-shard", "9"], "rows_per_shard"),
    ],
)
def test_other_options_in_the_same_folder(run, tmp_path, capsys, more, field):
    source = own_rows(tmp_path / "own", 4)
    assert run(source, "jsonl", tmp_path / "out") == 0
    before = content(tmp_path / "out")
    assert run(source, "jsonl", tmp_path / "out", *more) == 2
    said = capsys.readouterr().err
    assert f"run.json: field '{field}': was" in said and "take another output_path" in said
    assert content(tmp_path / "out") == before


def test_other_data_or_checkpoint_in_the_same_folder(run, tmp_path, capsys, monkeypatch, omni):
    source = own_rows(tmp_path / "own", 4)
    assert run(source, "jsonl", tmp_path / "out") == 0
    own_rows(tmp_path / "own", 5)
    assert run(source, "jsonl", tmp_path / "out") == 2
    assert "field 'source'" in capsys.readouterr().err
    file = own_rows(tmp_path / "own", 4)
    whole = file.read_text()
    file.write_text(whole.replace("?", "!"))  # of the same size
    assert run(source, "jsonl", tmp_path / "out") == 2
    assert "field 'source'" in capsys.readouterr().err
    file.write_text(whole)
    monkeypatch.setattr(tokenize, "digest", lambda _: "another")
    assert run(source, "jsonl", tmp_path / "out") == 2
    assert "field 'vq'" in capsys.readouterr().err
    (tmp_path / "foreign" / "shards").mkdir(parents=True)
    (tmp_path / "foreign" / "shards" / "00000.parquet").write_bytes(b"mine")
    assert run(source, "jsonl", tmp_path / "foreign") == 2
    assert "has files that no run tells of" in capsys.readouterr().err
    (tmp_path / "out" / "run.json").write_text("{}")
    assert run(source, "jsonl", tmp_path / "out") == 2
    assert "cannot be gone on with" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_shard_that_is_not_whole_is_made_again(run, tmp_path, damage):
    source = own_rows(tmp_path / "own", 20)
    assert run(source, "jsonl", tmp_path / "out", "--rows-per-shard", "4") == 0
    before = content(tmp_path / "out")
    shard = tmp_path / "out" / "shards" / "00002.parquet"
    first = (tmp_path / "out" / "shards" / "00001.parquet").stat().st_ino
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-9] + bytes(9 if damage == "other" else 0))
    assert run(source, "jsonl", tmp_path / "out", "--rows-per-shard", "4") == 0
    assert content(tmp_path / "out") == before
    assert (tmp_path / "out" / "shards" / "00001.parquet").stat().st_ino == first  # and those before it are left alone


def test_an_id_is_once_however_often_the_run_begins(run, tmp_path):
    source = own_rows(tmp_path / "own", 12)
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines, lines[1], lines[0], lines[9]]))
    assert run(source, "jsonl", tmp_path / "out", "--rows-per-shard", "4") == 0
    before = content(tmp_path / "out")
    twice = [reject["id"] for reject in rejects_of(tmp_path / "out") if reject["reason"] == "duplicate-id"]
    assert twice == ["row 1", "row 0", "row 9"]
    (tmp_path / "out" / "shards" / "00002.parquet").unlink()
    assert run(source, "jsonl", tmp_path / "out", "--rows-per-shard", "4") == 0
    assert content(tmp_path / "out") == before


@pytest.fixture
def tokens(run, tmp_path) -> Path:
    assert run(own_rows(tmp_path / "own", 60), "jsonl", tmp_path / "tokens", "--rows-per-shard", "20") == 0
    return tmp_path / "tokens"


def test_dataset(tokens, omni):
    started = time.perf_counter()
    dataset = TokenDataset(tokens, omni.vocabulary)
    assert time.perf_counter() - started < 0.5
    rows = rows_of(tokens)
    assert len(dataset) == len(rows) == 51 and dataset.manifest["counts"]["written"] == 51
    for index in [0, 15, 16, 19, 20, 50, 33, 1]:
        row, item = rows[index], dataset[index]
        assert item["input_ids"].dtype == item["labels"].dtype == torch.long
        assert item["input_ids"].tolist() == row["input_ids"] and dataset.length(index) == len(row["input_ids"])
        wanted = [
            token if counts else IGNORED for token, counts in zip(row["input_ids"], row["loss_mask"], strict=True)
        ]
        assert item["labels"].tolist() == wanted
    assert dataset[0]["name"] == "00000.parquet:1 (row 1)" and dataset[-1]["name"] == "00002.parquet:11 (row 59)"
    for wrong in (51, -52):
        with pytest.raises(IndexError):
            dataset[wrong]
    assert not [path for path in tokens.rglob("*") if path.name.endswith(".arrow")]


def test_dataset_in_the_processes_of_a_loader(tokens, omni):
    dataset = TokenDataset(tokens, omni.vocabulary)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert [item["name"] for item in loader] == [dataset[index]["name"] for index in range(len(dataset))]


def test_dataset_refuses(tokens, omni, tmp_path):
    def refused(match, **how):
        with pytest.raises(InputError, match=match) as error:
            TokenDataset(how.pop("folder", tokens), omni.vocabulary, **how)
        assert "\n" not in str(error.value)

    dataset = TokenDataset(tokens, omni.vocabulary)
    longest = max(map(dataset.length, range(len(dataset))))
    assert TokenDataset(tokens, omni.vocabulary, max_length=longest)
    refused(f"{longest} tokens, more than max_length {longest - 1}, as [0-9]+ of 51 rows", max_length=longest - 1)
    refused("no manifest.json: not a folder of omni-r1 tokenize or bootstrap", folder=tmp_path)
    other = dataclasses.replace(omni.vocabulary, eoi=omni.vocabulary.eoi + 1)
    with pytest.raises(InputError, match="manifest.json: field 'vocabulary': .* is not this checkpoint's"):
        TokenDataset(tokens, other)
    shard = tokens / "shards" / "00001.parquet"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refused("00001.parquet: has .* bytes, not")
    shard.write_bytes((tokens / "shards" / "00000.parquet").read_bytes()[: len(data)].ljust(len(data), b"\0"))
    refused("00001.parquet: cannot be read")
    shard.unlink()
    refused("00001.parquet: cannot be read")
    shard.write_bytes(data)
    manifest = json.loads((tokens / "manifest.json").read_text())
    for change in ({"format_version": 1}, {"shards": []}, {"shards": [{}]}, {"vocabulary": 1}):
        (tokens / "manifest.json").write_text(json.dumps(manifest | change))
        refused("manifest.json")
    (tokens / "manifest.json").write_text("{")
    refused("manifest.json: cannot be read")
    (tokens / "manifest.json").unlink()
    refused("no manifest.json: it is not finished; the command that began it goes on, or says why it cannot")


def test_a_damaged_page_is_seen(tokens, omni):
    dataset = TokenDataset(tokens, omni.vocabulary)
    shard = tokens / "shards" / "00001.parquet"
    data = bytearray(shard.read_bytes())
    column = pq.read_metadata(shard).row_group(1).column(1)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(data)
    assert len(dataset[20]["input_ids"]) == dataset.length(20)
    with pytest.raises(InputError, match="00001.parquet:11: "):
        dataset[30]


def test_digests(checkpoint, omni, tmp_path):
    vocabulary = omni.vocabulary
    assert Vocabulary.from_checkpoint(checkpoint).digest == vocabulary.digest
    changes = {"bos": 0, "size": 385, "image_length": 4, "tags": {}, "codes": vocabulary.codes.flip(0)}
    digests = {dataclasses.replace(vocabulary, **{name: value}).digest for name, value in changes.items()}
    assert len(digests - {vocabulary.digest}) == len(changes)
    other = write_checkpoint(tmp_path / "other", seed=1)
    assert Vocabulary.from_checkpoint(other).digest == vocabulary.digest  # other weights, the same words
    assert vq.digest(load(other).model.model.vqmodel) != vq.digest(omni.model.model.vqmodel)
    assert vq.digest(load(checkpoint, language_model=False).model.model.vqmodel) == vq.digest(omni.model.model.vqmodel)


def test_a_killed_run_leaves_no_workers(checkpoint, tmp_path):
    source = own_rows(tmp_path / "own", 3000, pictures=3)
    words = ["tokenize", "--input", source, "--format", "jsonl", "--model-path", checkpoint, "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "omni_r1.cli", *map(str, words), "--output-path", str(tmp_path / "out")],
        stderr=subprocess.DEVNULL,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    worker = None
    while worker is None and process.poll() is None:
        for child in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                worker = int(child)
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert worker is not None
    for _ in range(600):
        try:
            os.kill(worker, 0)
            if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError("the worker lives on")


def test_a_worker_that_dies_ends_the_run(omni, tmp_path):
    pictures = open_codes(omni, tmp_path / "c", batch_size=1, workers=1)
    try:
        key = pictures.ask(picture(1))
        pictures.encode()
        assert key in pictures.known
        for pid in pictures._pool._processes:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception, match="a process that decodes pictures died"):
            pictures.ask(picture(2))
            pictures.encode()
    finally:
        pictures.close()


def test_folder_sums_are_of_the_files(run, tmp_path):
    source = own_rows(tmp_path / "own", 9)
    assert run(source, "jsonl", tmp_path / "out", "--rows-per-shard", "3") == 0
    for shard in json.loads((tmp_path / "out" / "manifest.json").read_text())["shards"]:
        data = (tmp_path / "out" / "shards" / shard["file"]).read_bytes()
        assert (shard["sha256"], shard["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert shard["rows"] == pq.read_table(io.BytesIO(data)).num_rows
