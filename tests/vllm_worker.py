"""One vLLM engine in a process of its own, which is how many a process can have: `vllm_worker.py JOB.json RESULT.json`.

A job: `path`, `engine` (keywords of VllmBackend), and `calls`, each with `prompts`, `options`, `seeds`, and `reload`, a
checkpoint to load first. The result: a list of completions for each call, and how often a request was preempted.
"""

import dataclasses
import json
import sys
from pathlib import Path

from omni_r1.generate import SamplingOptions
from omni_r1.generate.vllm_backend import VllmBackend


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    backend = VllmBackend(job["path"], disable_log_stats=False, **job["engine"])
    answers = []
    for call in job["calls"]:
        if call.get("reload"):
            backend.reload(call["reload"])
        options = SamplingOptions(**call["options"])
        completions = backend.generate(call["prompts"], options, seeds=call.get("seeds"))
        answers.append([dataclasses.asdict(one) | {"trajectory": one.trajectory is not None} for one in completions])
    preempted = sum(metric.value for metric in backend.llm.get_metrics() if metric.name == "vllm:num_preemptions")
    Path(sys.argv[2]).write_text(json.dumps({"answers": answers, "preempted": preempted}))


if __name__ == "__main__":
    main()
