"""One process for each device: the answers of one process, and what happens when a process dies."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import omni_r1
from omni_r1.cli import main
from omni_r1.errors import InputError
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.generate.backend import Request, WorkerError, how_it_ended
from omni_r1.generate.worker_backend import WorkerBackend
from omni_r1.model import CheckpointError
from omni_r1.options import GenerateOptions
from prompts import ragged
from tiny import write_checkpoint

SOON = 10.0  # seconds in which a death must be known
ROWS = 300  # at a batch of one, so many that two workers are still at them when they are to be stopped
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("workers") / "model")


@pytest.fixture(scope="module")
def backend(checkpoint):
    workers = WorkerBackend(checkpoint, ["cpu", "cpu"], batch_size=3)
    yield workers
    workers.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + SOON
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "top_p": 0.9}], ids=["greedy", "sampled"])
def test_the_same_ids_as_one_process_and_bad_rows_fail_alone(backend, checkpoint, sampling):
    omni = omni_r1.load(checkpoint)
    words = omni.vocabulary
    bad = [[], [words.bos, words.size], [words.bos, words.boi, words.bos]]
    prompts = [*bad, *ragged(omni, 14, 1)]
    options = SamplingOptions(max_new_tokens=40, seed=5, **sampling)
    counted = []
    ours = backend.generate(prompts, options, progress=lambda *counts: counted.append(counts))
    for one, other in zip(ours, TransformersBackend(omni, 4).generate(prompts, options), strict=True):
        assert (one.ids, one.stop, one.error, one.trajectory) == (other.ids, other.stop, other.error, other.trajectory)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert [bool(row.error) for row in ours] == [True] * 3 + [False] * 14
    assert counted[-1] == (17, sum(len(row.logprobs) for row in ours))


def test_several_seeds_and_nothing_to_do(backend):
    options = SamplingOptions(max_new_tokens=5, do_sample=True)
    requests = [Request(key, [backend.vocabulary.bos], range(key, key + 5)) for key in range(3)]
    found = {(key, place): completion.ids for key, place, completion in backend.stream(requests, options)}
    assert sorted(found) == [(key, place) for key in range(3) for place in range(5)]
    assert found[0, 2] == found[1, 1] == found[2, 0]
    assert backend.generate([], options) == []


def test_what_a_worker_cannot_load_is_raised_once(checkpoint, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    save_file({name: one for name, one in weights.items() if name != "lm_head.weight"}, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match="lm_head.weight"):
        WorkerBackend(broken, ["cpu", "cpu"])
    with pytest.raises(InputError, match="field 'device': 'nonsense' cannot be used"):
        WorkerBackend(checkpoint, ["nonsense"])


def test_options_of_devices():
    given = {"input": "rows.jsonl", "model_path": "model"}
    assert GenerateOptions(**given, device="cuda:0, cuda:1").devices == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="field 'device': a name is missing"):
        GenerateOptions(**given, device="cuda:0,")
    with pytest.raises(InputError, match="field 'device': backend vllm"):
        GenerateOptions(**given, device="cuda:0,cuda:1", backend="vllm")


def test_how_a_process_ended():
    assert [how_it_ended(code) for code in (-9, -11, 1)] == ["SIGKILL", "SIGSEGV", "exit code 1"]


def test_a_stream_that_is_left_ends_the_workers(checkpoint):
    """And an error in a worker is told by name: here the options are none."""
    workers = WorkerBackend(checkpoint, ["cpu"])
    pids = [worker.process.pid for worker in workers.workers]
    with pytest.raises(WorkerError, match=r"worker 1 of 1 \(cpu, process \d+\) failed: AttributeError"):
        list(workers.stream([Request(0, "a")], None))
    assert gone(pids)
    with pytest.raises(WorkerError, match="have ended"):
        list(workers.stream([], SamplingOptions()))


class Run:
    """`omni-r1 generate` with two workers in a process of its own, which has just written some answers."""

    def __init__(self, words: list[str], out: Path) -> None:
        command = [sys.executable, "-m", "omni_r1.cli", *words, "--output-dir", str(out), "--device", "cpu,cpu"]
        before = written(out)
        self.process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's `&` has it ignored below it
        )
        while written(out) < before + 10:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)
        # In the order of the workers; multiprocessing's own helper is none.
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.workers = [int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(self.workers) == 2

    def end(self) -> tuple[str, float]:
        """What it said, and how many seconds it and its workers took to end."""
        started = time.monotonic()
        _, stderr = self.process.communicate(timeout=60)
        assert gone(self.workers)
        return stderr, time.monotonic() - started


@pytest.fixture
def words(checkpoint, tmp_path) -> list[str]:
    rows = [{"prompt": f"{'abc de ' * (number % 5)}{number}"} for number in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["generate", "--input", str(tmp_path / "rows.jsonl"), "--model-path", str(checkpoint)]
    return [*words, "--max-new-tokens", "40", "--batch-size", "1", "--do-sample"]


def written(out: Path) -> int:
    """How many lines the log has: quickly, since the run goes on meanwhile."""
    log = out / "rows" / "decoded_results.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def records(out: Path) -> dict[str, dict]:
    """The log by now: without a line that is being written, and without log-probs, whose last digit may differ."""
    log = out / "rows" / "decoded_results.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["id"]: {name: row[name] for name in row if name not in ("logprob", "crc")} for row in rows}


def test_a_killed_worker_is_named_and_the_run_goes_on_later(words, tmp_path):
    """A worker is killed; the run is started again and interrupted; then one process answers the rest."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    run = Run(words, out)
    os.kill(run.workers[1], signal.SIGKILL)
    stderr, seconds = run.end()
    print(f"a killed worker was told, and the run over, after {seconds:.2f} s")
    assert run.process.returncode == 2 and seconds < SOON
    errors = [line for line in stderr.splitlines() if "rror" in line]
    assert errors == [f"omni-r1: error: worker 2 of 2 (cpu, process {run.workers[1]}) died: SIGKILL"]
    first = records(out)

    run = Run(words, out)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does
    stderr, seconds = run.end()
    print(f"an interrupted run was over after {seconds:.2f} s")
    assert run.process.returncode == 130 and "Traceback" not in stderr and seconds < SOON
    assert f"{len(first)} answers are there already" in stderr
    second = records(out)
    assert 10 <= len(first) < len(second) < ROWS and first.items() <= second.items()

    assert main([*words, "--output-dir", str(out), "--batch-size", "60"]) == 0
    assert main([*words, "--output-dir", str(whole), "--batch-size", "60"]) == 0
    assert [*records(out).items()] == [*records(whole).items()] and len(records(whole)) == ROWS


def test_workers_end_with_their_parent(words, tmp_path):
    run = Run(words, tmp_path / "out")
    run.process.kill()
    stderr, seconds = run.end()
    print(f"no worker left after {seconds:.2f} s")
    assert seconds < SOON and "Traceback" not in stderr
