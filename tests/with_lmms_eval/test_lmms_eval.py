"""The model and the task in the harness itself: two questions of the miniature, from its registry to its figures."""

from pathlib import Path

import pytest
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager

from omni_r1 import shipped
from omni_r1.bench import tasks
from omni_r1.bench.lmms_eval_model import OmniR1
from omni_r1.bench.run import run_bench
from omni_r1.files import AppendLog
from omni_r1.options import SHIPPED, BenchOptions
from omni_r1.run_record import RESULTS

TASKS = Path(next(iter(tasks.__path__)))


def test_found_by_its_entry_point():
    assert get_model("omni_r1") is OmniR1


@pytest.fixture
def manager(tmp_path, monkeypatch) -> TaskManager:
    """Omni-Bench's task, and the same on the miniature's parquet."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "miniature.yaml").write_text(
        f"include: {TASKS / 'omni_bench.yaml'}\ntask: omni_bench_miniature\ndataset_path: parquet\n"
        f"dataset_kwargs:\n  data_files:\n    train: {shipped.BENCH}\n  cache_dir: {tmp_path / 'cache'}\n"
    )
    return TaskManager("INFO", include_path=[str(TASKS), str(tmp_path)], include_defaults=False)


def test_two_questions_of_the_miniature(manager, tmp_path):
    assert {"omni_bench", "omni_bench_miniature"} <= set(manager.all_tasks)
    found = simple_evaluate(
        model="omni_r1",
        model_args=f"pretrained={SHIPPED},max_new_tokens=400,images_dir={tmp_path / 'drawn'}",
        tasks=["omni_bench_miniature"],
        task_manager=manager,
        batch_size=2,
        device="cpu",
        limit=2,
        bootstrap_iters=0,
    )
    figures = found["results"]["omni_bench_miniature"]
    run_bench(BenchOptions(SHIPPED, max_new_tokens=400, limit=2, output_dir=str(tmp_path / "ours")))
    with AppendLog(tmp_path / "ours" / RESULTS) as log:
        ours = log.rows
    assert figures["accuracy,none"] == sum(row["correct"] for row in ours) / 2
    assert figures["no_answer,none"] == figures["failed,none"] == 0
    drawn = [path.read_bytes() for path in sorted((tmp_path / "drawn").glob("*.png"))]
    assert len(drawn) == sum(len(row["images"]) for row in ours)
    assert set(drawn) == {(tmp_path / "ours" / name).read_bytes() for row in ours for name in row["images"]}
