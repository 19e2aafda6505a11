"""Questions to parquet, and the parquet through verl's own loading of data sets."""

import json

import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture
from verl.trainer.ppo.utils import create_rl_dataset
from verl.utils.dataset.rl_dataset import collate_fn

import omni_r1
from omni_r1.errors import InputError
from omni_r1.model import load
from omni_r1.perpo.verl_plugins.dataset import TokenDataset
from omni_r1.perpo.verl_plugins.rows import RowsOptions, main, write_rows

ROWS = [
    {"id": "a", "prompt": "What is below <image> the boat?", "images": ["boat.png"], "answer": "a buoy"},
    {"prompt": "2 + 2?", "answer": 4, "options": ["3", "4"]},
    {"id": 7, "prompt": "And here?", "images": ["boat.png"], "answer": " no "},
]


@pytest.fixture
def source(tmp_path):
    Picture.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "boat.png")

    def write(rows):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "rows.jsonl"

    return write


@pytest.fixture
def options(source, path, tmp_path):
    def make(rows=ROWS, **more):
        output = str(tmp_path / "out" / "train.parquet")
        return RowsOptions(input=str(source(rows)), model_path=str(path), output_path=output, **more)

    return make


@pytest.mark.parametrize("template", ["plain", "templated"])
def test_rows_are_what_the_checkpoint_makes_of_the_questions(options, path, tmp_path, template):
    asked = options(template=template)
    assert write_rows(load(path, language_model=False), asked) == 3
    omni = omni_r1.load(path)
    found = pq.read_table(asked.output_path).to_pylist()
    assert [row["reward_model"]["ground_truth"] for row in found] == ["a buoy", "4", "no"]
    assert [row["extra_info"]["id"] for row in found] == ["a", "row 2", "7"]
    assert [row["extra_info"]["options"] for row in found] == [None, ["3", "4"], None]
    for row, one in zip(ROWS, found, strict=True):
        pictures = [Picture.open(tmp_path / name) for name in row.get("images", [])]
        prompt = omni.prompt(row["prompt"], pictures, template)
        assert one["extra_info"]["prompt_ids"] == omni.vocabulary.render(prompt).ids
        assert one["prompt"] == [{"role": "user", "content": row["prompt"]}]


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "?", "images": ["none.png"], "answer": "a"}, "rows.jsonl:2: field 'images'"),
        ({"prompt": "?"}, "rows.jsonl:2: field 'answer'"),
        ({"prompt": "?", "answer": True}, "rows.jsonl:2: field 'answer'"),
        ({"prompt": "?", "answer": "a", "options": "abc"}, "rows.jsonl:2: field 'options'"),
        ({"prompt": "<image>", "answer": "a"}, "rows.jsonl:2: field 'prompt'"),
        ({"id": "a", "prompt": "?", "answer": "a"}, "rows.jsonl:2: field 'id'"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(options, path, tmp_path, capsys, row, said):
    asked = options([ROWS[0], row])
    words = ["--input", asked.input, "--model-path", asked.model_path, "--output-path", asked.output_path]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


@pytest.fixture
def parquet(options, path):
    asked = options()
    words = ["--input", asked.input, "--model-path", asked.model_path, "--output-path", asked.output_path]
    assert main(words) == 0
    return asked.output_path


def load_with_verl(config, parquet, **more):
    data = config.data.copy()
    for name, value in more.items():
        data[name] = value
    return create_rl_dataset(parquet, data, tokenizer=None, processor=None)


def test_verl_loads_them(config, parquet):
    found = load_with_verl(config, parquet)
    assert isinstance(found, TokenDataset) and len(found) == 3
    written = pq.read_table(parquet).to_pylist()
    batch = collate_fn([found[0], found[1], found[2]])
    assert list(batch["index"]) == [0, 1, 2] and list(batch["data_source"]) == ["omni-r1"] * 3
    for number, extra in enumerate(batch["extra_info"]):
        assert extra["prompt_ids"] == written[number]["extra_info"]["prompt_ids"]
        assert batch["raw_prompt"][number] == written[number]["prompt"]


def test_long_prompts_are_left_out_or_refused_by_their_ids(config, parquet):
    assert len(load_with_verl(config, parquet, max_prompt_length=15)) == 1
    with pytest.raises(InputError, match=r"train.parquet:1: field 'extra_info.prompt_ids': .*max_prompt_length=15"):
        load_with_verl(config, parquet, max_prompt_length=15, filter_overlong_prompts=False)


def test_a_parquet_without_ids_is_refused(config, tmp_path):
    import pyarrow as pa

    file = tmp_path / "text.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": [{"role": "user", "content": "?"}]}]), file)
    with pytest.raises(InputError, match="text.parquet: no column 'extra_info'"):
        load_with_verl(config, str(file))
