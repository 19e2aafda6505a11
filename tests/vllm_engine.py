"""Runs the vLLM backend in processes of their own: a process can have one engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
# One thread: the engine starts faster, and its sums have one order.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "PYTHONPATH": str(SRC),
}


def run(command: list[str]) -> subprocess.CompletedProcess:
    """Run a Python command in an environment fit for vLLM."""
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def ask(folder: Path, path: Path, calls: list[dict], **engine) -> dict:
    """What an engine of its own answers to the calls (see vllm_worker.py)."""
    job, result = folder / "job.json", folder / "result.json"
    job.write_text(json.dumps({"path": str(path), "engine": engine, "calls": calls}))
    run([str(Path(__file__).parent / "vllm_worker.py"), str(job), str(result)])
    return json.loads(result.read_text())
