"""The adapter of docs/omni-bench.md, called as VLMEvalKit calls a model: `infer_data` and `run.py` of its repository at
0044c57 and 002f7b7. The harness itself is in no package index, so its two modules are stood in for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corpora import picture
from omni_r1 import shipped

ROOT = Path(__file__).parents[2]
RUN = """
import json
from vlmeval.config import supported_VLM
model = supported_VLM["omni_r1"]({model!r})
model.set_dump_image(lambda line: ["a.png"])
messages = [
    [{{"type": "image", "value": "a.png"}}, {{"type": "text", "value": "What is right of the moon?"}}],
    [{{"type": "text", "value": "What is right of the moon?"}}],
]
print(json.dumps([model.generate(message=message, dataset="MMStar") for message in messages]))
"""


@pytest.mark.slow
def test_the_adapter_answers(tmp_path):
    [adapter] = re.findall(
        r"^```python\n(import runpy\n.*?)^```", (ROOT / "docs/omni-bench.md").read_text(), re.S | re.M
    )
    (tmp_path / "vlmeval").mkdir()
    (tmp_path / "vlmeval" / "config.py").write_text("supported_VLM = {}\n")
    (tmp_path / "run.py").write_text(RUN.format(model=str(shipped.MODEL)))
    (tmp_path / "adapter.py").write_text(adapter)
    (tmp_path / "a.png").write_bytes(picture(0))
    done = subprocess.run([sys.executable, "adapter.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    assert answers[0]
