import json
import pickle

import numpy as np
import pytest
import torch

import tiny as files
from omni_r1.errors import OmniError
from omni_r1.trajectory import TAGS, Image, Text, Trajectory
from omni_r1.vocabulary import BrokenImage, Misplaced, ParseError, Vocabulary, VocabularyError

HOSTILE = "<racm3:break><eoss></s><s><pad><unk><image> IMGIMGAZ<reserved08706>"
TEXTS = [
    "",
    " leading and trailing ",
    "a  b   c\n\n\n d \t\r\n",
    "don 't , . ! we 're",
    "😀👩‍👩‍👧 é e\u0301 漢字 \u202e \x00 \x7f",
    "\ufffd \ufeff ĠĊ",
    HOSTILE,
    "it is <reserved1285 6> <reserved12855>",
    "the there rein  ser",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_round_trip(vocabulary, text):
    assert vocabulary.decode_text(vocabulary.encode_text(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_text_round_trip_in_the_published_tokenizer(tiny, text):
    published = Vocabulary.from_checkpoint(tiny)
    assert published.decode_text(published.encode_text(text)) == text


def test_typed_control_tokens_stay_text(vocabulary):
    control = {vocabulary.boi, vocabulary.eoi, vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.image}
    assert control.isdisjoint(vocabulary.encode_text(HOSTILE))
    assert set(vocabulary.codes.tolist()).isdisjoint(vocabulary.encode_text(HOSTILE))


def test_tags_become_their_ids(vocabulary):
    ids = vocabulary.encode_text(f"a{TAGS.answer_open}42{TAGS.answer_close}")
    assert [token for token in ids if token in vocabulary.tags.values()] == [
        vocabulary.tags[TAGS.answer_open],
        vocabulary.tags[TAGS.answer_close],
    ]
    assert vocabulary.decode_text(ids) == f"a{TAGS.answer_open}42{TAGS.answer_close}"


def test_ids_come_from_the_checkpoint(vocabulary):
    names = files.names()
    assert vocabulary.codes.tolist() == [names.index(files.code_name(code)) for code in range(files.CODES)]
    found = [vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.boi, vocabulary.eoi, vocabulary.image]
    assert [names[token] for token in found] == ["<s>", "</s>", "<pad>", "<racm3:break>", "<eoss>", "<image>"]
    assert vocabulary.tags == {tag: names.index(tag) for tag in TAGS}
    assert (vocabulary.size, vocabulary.image_length) == (files.SIZE, 16)


def test_published_ids(tiny):
    published = Vocabulary.from_checkpoint(tiny)
    assert published.codes.tolist() == list(range(4, 8196))
    assert (published.bos, published.pad, published.eos) == (0, 1, 2)
    assert (published.eoi, published.boi, published.image) == (8196, 8197, 8711)
    assert list(published.tags.values()) == [12860, 12861, 12870, 12871]
    assert (published.size, published.image_length) == (17408, 16)
    golden = np.load(tiny.parents[1] / "golden" / "tiny" / "golden.npz")
    text = "Hello, what is 12+34? <reserved12856> think <reserved12857>"
    assert [published.bos, *published.encode_text(text)] == golden["proc0_1_ids"][0].tolist()


def test_render(vocabulary):
    picture = Image(tuple(range(16)))
    rendered = vocabulary.render(Trajectory((Text("t"), picture), (Text("he"),), ended=True))
    image = [vocabulary.boi, *vocabulary.codes[:16].tolist(), vocabulary.eoi]
    t, he = vocabulary.encode_text("t"), vocabulary.encode_text("he")
    assert rendered.ids == [vocabulary.bos, *t, *image, *he, vocabulary.eos]
    assert rendered.prompt_length == 1 + len(t) + len(image)


def test_no_merge_across_the_border(vocabulary):
    split = vocabulary.render(Trajectory((Text("h"),), (Text("e"),)))
    assert len(split.ids) == 3 and len(vocabulary.encode_text("he")) == 1
    assert vocabulary.parse(split.ids, split.prompt_length) == Trajectory((Text("h"),), (Text("e"),))


@pytest.mark.parametrize("codes", [(), range(15), range(17), [64] * 16])
def test_image_of_another_checkpoint(vocabulary, codes):
    with pytest.raises(OmniError):
        vocabulary.render(Trajectory((Image(tuple(codes)),)))


def test_parse_borders(vocabulary):
    a = vocabulary.encode_text("a")
    assert vocabulary.parse([]) == Trajectory(())
    assert vocabulary.parse([vocabulary.bos], 1) == vocabulary.parse([vocabulary.bos], 0) == Trajectory(())
    assert vocabulary.parse(a, 1) == Trajectory((Text("a"),))
    assert vocabulary.parse([*a, vocabulary.eos]) == Trajectory((), (Text("a"),), ended=True)
    assert vocabulary.parse([vocabulary.eos]) == Trajectory((), ended=True)


def test_parse_errors_name_the_place(vocabulary):
    boi, eoi, code = vocabulary.boi, vocabulary.eoi, int(vocabulary.codes[5])
    text = vocabulary.encode_text("a")[0]

    def fault(ids, prompt_length=0):
        with pytest.raises(ParseError) as raised:
            vocabulary.parse(ids, prompt_length)
        return raised.value

    for count in (0, 1, 15, 17, 40):
        broken = fault([text, boi, *[code] * count, eoi])
        assert isinstance(broken, BrokenImage)
        assert (broken.position, broken.found, broken.expected) == (1, count, 16)
    for inside in ([boi], [text], [vocabulary.eos], [vocabulary.pad], [-1], []):
        broken = fault([text, boi, *[code] * 16, *inside])
        assert isinstance(broken, BrokenImage) and (broken.position, broken.found) == (1, 16)
    for token in (code, eoi, vocabulary.bos, vocabulary.eos, vocabulary.pad, -1, vocabulary.size, 2**70):
        misplaced = fault([text, token, text])
        assert isinstance(misplaced, Misplaced) and (misplaced.position, misplaced.token) == (1, token)
    assert isinstance(fault([text, boi, code], 3), BrokenImage)  # a prompt that ends inside an image
    assert isinstance(fault([text, boi, *[code] * 16, eoi], 5), BrokenImage)
    assert isinstance(fault([text, vocabulary.eos], 2), Misplaced)
    for length in (-1, 2):
        fault([text], length)


def test_tokens_and_codes(vocabulary):
    codes = torch.randint(files.CODES, (3, 16))
    ids = vocabulary.codes_to_tokens(codes)
    assert torch.equal(ids, vocabulary.codes[codes]) and torch.equal(vocabulary.tokens_to_codes(ids), codes)
    for token in (vocabulary.boi, -1, vocabulary.size):
        with pytest.raises(OmniError):
            vocabulary.tokens_to_codes(torch.full((1, 16), token))
    for code in (-1, files.CODES):
        with pytest.raises(OmniError):
            vocabulary.codes_to_tokens(torch.full((1, 16), code))


def test_survives_a_worker_process(vocabulary):
    copy = pickle.loads(pickle.dumps(vocabulary))
    assert copy.encode_text(HOSTILE) == vocabulary.encode_text(HOSTILE)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary_map": None},
        {"vocabulary_map": {"<image>": 3}},
        {"vocabulary_map": []},
        {"vocab_size": None},
        {"vocab_size": 100},
        {"boi_token_id": None, "vocabulary_map": {}},
        {"boi_token_id": "8197"},
        {"vq_config": {"num_embeddings": 65, "resolution": 16, "channel_multiplier": [1, 1, 1]}},
        {"vq_config": 3},
    ],
)
def test_config_that_says_something_else(tmp_path, change):
    files.write_files(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(files.config() | change))
    with pytest.raises(VocabularyError, match=str(tmp_path)):
        Vocabulary.from_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_damaged_files(tmp_path, name, content):
    files.write_files(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(VocabularyError, match=str(tmp_path)):
        Vocabulary.from_checkpoint(tmp_path)
