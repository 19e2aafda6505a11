"""Steps of fixed shapes give what others give; on a GPU they are compiled, and here once."""

import shutil

import pytest

import omni_r1
from omni_r1.generate import SamplingOptions, TransformersBackend, compiled, transformers_backend
from omni_r1.generate.batch import last_states
from omni_r1.model import Omni
from prompts import ragged
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("compiled")))


@pytest.fixture(autouse=True)
def few_columns(monkeypatch):
    monkeypatch.setattr(compiled, "LEAST_COLUMNS", 32)  # so that they double within these rows


@pytest.mark.parametrize("more", [{}, {"guidance_scale": 2.0}, {"do_sample": True}], ids=str)
def test_fixed_shapes(omni, more, monkeypatch):
    """Rows enter and leave, slots are reused, columns double: the ids stay the same."""
    monkeypatch.setattr(transformers_backend, "compile_decode", lambda device: last_states)
    prompts, options = ragged(omni, 12, 1), SamplingOptions(max_new_tokens=50, **more)
    fixed = TransformersBackend(omni, 5, compiled=True).generate(prompts, options)
    for got, wanted in zip(fixed, TransformersBackend(omni, 5).generate(prompts, options), strict=True):
        assert got.ids == wanted.ids and got.stop == wanted.stop
        assert got.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_compiled(omni):
    prompts, options = ragged(omni, 5, 2), SamplingOptions(max_new_tokens=30)
    got = TransformersBackend(omni, 3, compiled=True).generate(prompts, options)
    wanted = TransformersBackend(omni, 3).generate(prompts, options)
    assert [row.ids for row in got] == [row.ids for row in wanted]
