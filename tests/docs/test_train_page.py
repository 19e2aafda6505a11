"""Every command of docs/train.md, in order, on the miniature, ten rows in Zebra-CoT's schema and two CPU processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import corpora
from omni_r1 import shipped

ROOT = Path(__file__).parents[2]
PROGRAM = """#!{python}
import sys
sys.path[:0] = [{source!r}, {tests!r}]
import pesft_on_cpu
sys.exit(pesft_on_cpu.main())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder to work in, with the recipes, the data and a program `omni-r1` that runs FSDP on CPUs too."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "configs").symlink_to(ROOT / "configs")
    corpora.zebra(folder / "data")
    (folder / "ask.jsonl").write_text(json.dumps({"id": "1", "prompt": "What comes next?"}) + "\n")
    program = folder / "bin" / "omni-r1"
    program.parent.mkdir()
    paths = {"source": str(ROOT / "src"), "tests": str(ROOT / "tests" / "distributed")}
    program.write_text(PROGRAM.format(python=sys.executable, **paths))
    program.chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_a_data_set_to_a_checkpoint(place):
    pytest.importorskip("deepspeed")
    settings, *blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "train.md").read_text(), re.S | re.M)
    assert {"BASE", "DATA", "GPUS"} == set(re.findall(r"^([A-Z]+)=", settings, re.M))
    environment = os.environ | {"BASE": str(shipped.MODEL), "DATA": str(place / "data"), "GPUS": "2"}
    environment["PATH"] = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    for block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    for output in ("lora", "zero2", "fsdp2", "ddp", "watched"):
        rows = [json.loads(line) for line in (place / "out" / output / "log.jsonl").read_text().splitlines()]
        assert rows and (place / "out" / output / "model.safetensors").is_file(), output
    assert sorted(file.name for file in (place / "out/watched/samples").glob("*.png")) == [
        "step-000002.png",
        "step-000004.png",
    ]
    answers = (place / "out/answers/ask/decoded_results.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in answers] == ["ok"]
    assert (place / "out/answers/ask/report.html").is_file()
