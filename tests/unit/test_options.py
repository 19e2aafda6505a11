from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from omni_r1 import option_parser, options
from omni_r1.errors import InputError
from omni_r1.grammar import MODES
from omni_r1.model.checkpoint import DTYPES
from omni_r1.option_parser import option
from omni_r1.options import BenchOptions, CompareOptions, DemoOptions, GenerateOptions, PesftOptions, ReportOptions
from omni_r1.trajectory import TEMPLATES


@dataclass
class Sample:
    """One option of every kind."""

    model_path: str = option(help="text")
    count: int = option(1, help="whole number", alias="how_many")
    rate: float = option(0.5, help="100 % of a number")
    fast: bool = option(False, help="switch, off")
    careful: bool = option(True, help="switch, on")
    limit: int | None = option(None, help="whole number or none")
    kind: Literal["a", "b"] = option("a", help="choice")
    part: Literal["c", "none"] | None = option(None, help="choice that may be none, or left out")


def parse(*words: str) -> Sample:
    return option_parser.parse(Sample, ["--model-path", "m", *words], "sample")


def recipe(folder: Path, content: Any) -> str:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "model_path", "m"),
        ("--model_path=n", "model_path", "n"),
        ("--model-path n", "model_path", "n"),
        ("--count 3", "count", 3),
        ("--count=-3", "count", -3),
        ("--count -3", "count", -3),
        ("--count 3 --count 4", "count", 4),
        ("--how-many 3", "count", 3),
        ("--how_many=3", "count", 3),
        ("--rate 1e-5", "rate", 1e-5),
        ("--rate 2", "rate", 2.0),
        ("--fast", "fast", True),
        ("--fast false", "fast", False),
        ("--fast=True", "fast", True),
        ("--fast --count 3", "fast", True),
        ("--no-careful", "careful", False),
        ("--no_careful", "careful", False),
        ("--fast --no-fast", "fast", False),
        ("--limit 5", "limit", 5),
        ("--limit none", "limit", None),
        ("--kind b", "kind", "b"),
        ("", "part", None),
        ("--part none", "part", "none"),
    ],
)
def test_flags(words, name, value):
    assert getattr(parse(*words.split()), name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count x", "field 'count': must be a whole number, not 'x'"),
        ("--count 1.5", "field 'count': must be a whole number, not '1.5'"),
        ("--rate nan", "field 'rate': must be a number, not 'nan'"),
        ("--rate inf", "field 'rate': must be a number, not 'inf'"),
        ("--fast maybe", "field 'fast': must be true or false, not 'maybe'"),
        ("--kind c", "field 'kind': must be one of a, b, not 'c'"),
        ("--cuont 3", "unknown option --cuont; the nearest is --count"),
        ("--mod 3", "unknown option --mod; the nearest is --model-path"),  # no abbreviations
        ("--no-count", "unknown option --no-count; the nearest is --count"),
        ("--frobnicate 3", "unknown option --frobnicate; --help lists them"),
        ("--m 3", "unknown option --m; the nearest is --model-path"),
        ("--conf r.yaml", "unknown option --conf; the nearest is --config"),
        ("stray", "unexpected 'stray': options are --NAME VALUE"),
        ("--count", "argument --count: expected one argument"),
    ],
)
def test_bad_flags(words, message):
    with pytest.raises(InputError) as error:
        parse(*words.split())
    assert str(error.value) == message


def test_required():
    with pytest.raises(InputError, match="field 'model_path': is required"):
        option_parser.parse(Sample, [], "sample")


def test_recipe_first_then_flags(tmp_path):
    path = recipe(tmp_path, {"model_path": "r", "count": 5, "rate": 2, "careful": False, "limit": None})
    read = option_parser.parse(Sample, ["--count", "6", "--config", path], "sample")
    assert (read.model_path, read.count, read.rate, read.careful, read.limit) == ("r", 6, 2.0, False, None)
    (tmp_path / "over.yaml").write_text("rate: 3\ncount: 7\n")
    read = option_parser.parse(Sample, ["--config", path, "--count", "6", "--config", str(tmp_path / "over.yaml")], "s")
    assert (read.model_path, read.count, read.rate) == ("r", 6, 3.0)


def test_recipe_keys_as_flags_are(tmp_path):
    path = recipe(tmp_path, "model-path: r\nhow_many: 4\nrate: 1e-5\n")
    read = option_parser.parse(Sample, ["--config", path], "sample")
    assert (read.model_path, read.count, read.rate) == ("r", 4, 1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cuont: 3", "unknown option cuont; the nearest is count"),
        ("3: 3", "unknown option 3"),
        ("count: 1.5", "field 'count': must be a whole number, not 1.5"),
        ("count: true", "field 'count': must be a whole number, not True"),
        ("count: null", "field 'count': must be a whole number, not None"),
        ("count: .inf", "field 'count': must be a whole number, not inf"),
        ("model_path: 2026", "field 'model_path': must be text, not 2026"),
        ("fast: 1", "field 'fast': must be true or false, not 1"),
        ("kind: [a]", "field 'kind': must be one of a, b, not ['a']"),
        ("count: {a: 1}", "field 'count': must be a whole number, not {'a': 1}"),
        ("count: 3\nhow-many: 4", "field 'count': is given twice"),
        ("count: 3\nfast: true\ncount: 4", "field 'count': is given twice"),
        ("- count", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("count: [", "cannot be read"),
        ("count: 2024-13-45", "cannot be read"),
        ("count: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_bad_recipes(content, message, tmp_path):
    path = recipe(tmp_path, content)
    with pytest.raises(InputError) as error:
        parse("--config", path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_missing_recipe():
    with pytest.raises(InputError, match="nowhere.yaml: cannot be read"):
        parse("--config", "nowhere.yaml")


def test_help_of_every_kind(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "(required)",
        "{a,b}",
        "[true|false]",
        "(default: on)",
        "(default: none)",
        "(default: left out)",
        "100 %",
        "--how-many",
    ):
        assert part in shown


@given(
    st.builds(
        Sample,
        model_path=st.text(min_size=1).filter(lambda text: not text.startswith("-")),
        count=st.integers(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        fast=st.booleans(),
        careful=st.booleans(),
        limit=st.none() | st.integers(),
        kind=st.sampled_from(["a", "b"]),
        part=st.sampled_from(["c", "none"]),
    )
)
def test_flags_say_any_value(sample):
    assert (
        option_parser.parse(Sample, [f"--{name}={value}" for name, value in vars(sample).items()], "sample") == sample
    )


GENERATE = {"input": "i", "model_path": "m"}
OUTFILES = ("", "a/b", "..", "results.jsonl", "Summary.JSON", "judge.jsonl", "suite.json", "figures.md", "images")
PESFT = {"model_path": "m", "train_data": "d", "output_path": "o"}


@pytest.mark.parametrize(
    ("cls", "values", "field"),
    [
        (DemoOptions, {"limit": 0}, "limit"),
        (GenerateOptions, {**GENERATE, "temperature": 0.5}, "do_sample"),
        (GenerateOptions, {**GENERATE, "mode": "text-only", "max_images": 2}, "max_images"),
        (GenerateOptions, {**GENERATE, "mode": "image-only", "max_images": 0}, "max_images"),
        (GenerateOptions, {**GENERATE, "max_images": -1}, "max_images"),
        (GenerateOptions, {**GENERATE, "append_boi": True, "max_images": 0}, "append_boi"),
        (GenerateOptions, {**GENERATE, "append_boi": True, "mode": "text-only"}, "append_boi"),
        (GenerateOptions, {**GENERATE, "mode": "unrestricted", "max_images": 1}, "max_images"),
        (GenerateOptions, {**GENERATE, "batch_size": 0}, "batch_size"),
        (GenerateOptions, {**GENERATE, "backend": "vllm", "quantize": "8bit"}, "quantize"),
        (GenerateOptions, {**GENERATE, "max_gpu_memory": "10GiB"}, "max_gpu_memory"),
        (
            GenerateOptions,
            {**GENERATE, "max_gpu_memory": "1GiB", "device": "auto", "backend": "vllm"},
            "max_gpu_memory",
        ),
        (PesftOptions, {**PESFT, "perception_weight": -1.0}, "perception_weight"),
        (PesftOptions, {**PESFT, "warmup_ratio": 1.0}, "warmup_ratio"),
        (PesftOptions, {**PESFT, "warmup_ratio": 0.1, "lr_scheduler_type": "constant"}, "warmup_ratio"),
        (PesftOptions, {**PESFT, "max_steps": 0}, "max_steps"),
        (PesftOptions, {**PESFT, "seed": 2**32}, "seed"),
        (PesftOptions, {**PESFT, "adam_beta2": 1.0}, "adam_beta2"),
        (BenchOptions, {"model_path": "m", "limit": 0}, "limit"),
        (BenchOptions, {"model_path": "m", "control_path": "m"}, "control_path"),
        *((BenchOptions, {"model_path": "m", "outfile": name}, "outfile") for name in OUTFILES),
        (BenchOptions, {"model_path": "m", "judge_max_tokens": 0}, "judge_max_tokens"),
    ],
)
def test_contradictions(cls, values, field):
    with pytest.raises(InputError) as error:
        cls(**values)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (DemoOptions, {}),
        (GenerateOptions, GENERATE),
        (GenerateOptions, {**GENERATE, "do_sample": True, "temperature": 0.5}),
        (GenerateOptions, {**GENERATE, "mode": "text-only", "max_images": 0}),
        (GenerateOptions, {**GENERATE, "device": "auto", "max_gpu_memory": "10GiB", "quantize": "4bit"}),
        (PesftOptions, PESFT),
        (BenchOptions, {"model_path": "m"}),
        (ReportOptions, {"run_dir": "r"}),
    ],
)
def test_defaults_are_allowed(cls, values):
    cls(**values)


def test_generation_mode_as_in_the_original():
    words = ["--input", "i", "--model-path", "m", "--generation-mode", "interleaved-text-image"]
    assert option_parser.parse(GenerateOptions, words, "generate").mode == "interleaved-text-image"


def test_choices_are_those_of_the_code_behind():
    assert set(get_args(options.Mode)) == {*MODES, "interleaved-text-image"}
    assert set(get_args(options.Dtype)) == set(DTYPES)
    assert set(get_args(options.Template)) == set(TEMPLATES)


@pytest.mark.parametrize(
    "words", [["a", "b", "--output-dir", "o"], ["--output-dir", "o", "a", "b"], ["--runs", "a", "b", "--output-dir=o"]]
)
def test_words_without_a_flag_are_the_list(words):
    assert option_parser.parse(CompareOptions, words, "bench compare") == CompareOptions(["a", "b"], "o")


def test_a_list_of_a_recipe(tmp_path):
    path = recipe(tmp_path, {"runs": ["a", "b"]})
    assert option_parser.parse(CompareOptions, ["--config", path], "bench compare").runs == ["a", "b"]
    path = recipe(tmp_path, {"runs": "a"})
    with pytest.raises(InputError, match="field 'runs': must be texts, not 'a'"):
        option_parser.parse(CompareOptions, ["--config", path], "bench compare")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--runs", "b", "c"], "unexpected 'a'"),
        (["a", "--rums", "b"], "unknown option --rums; the nearest is --runs"),
        ([], "field 'runs': is required"),
        (["a"], "field 'runs': must be two folders at least"),
    ],
)
def test_a_wrong_list_is_told(words, message):
    with pytest.raises(InputError) as error:
        option_parser.parse(CompareOptions, words, "bench compare")
    assert message in str(error.value)
