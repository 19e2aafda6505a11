"""A hostile file is used, or refused by one typed error: at once, in little memory, and nothing else is read.

Each family of cases runs in a process of its own (`hostile.watched`), which reports what became of every case.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import omni_r1

TESTS = Path(__file__).parents[1]
FAMILIES = {
    "pictures": 140,
    "rows": 190,
    "places": 80,
    "suites": 100,
    "checkpoints": 280,
}  # and how many cases at least
SECONDS = 5.0  # of computing; a case that waits instead is ended by the process itself after two minutes
WAITING = 30.0  # seconds by the clock, on a machine that does other things too
MEGABYTES = 1024  # above the clean run
RUNS = ("run", "report-", "bench-", "input-", "path", "root", "addresses")  # cases of a name without a verdict


def reported(family: str, folder: Path) -> dict[str, dict]:
    """What became of each case of a family, by its name."""
    paths = os.pathsep.join([str(TESTS), str(Path(omni_r1.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hostile.watched", family, str(folder)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    last = done.stdout.strip().rpartition("# ")[2]
    assert done.returncode == 0, f"{family} ended at {last}: {done.stderr[-3000:]}"
    cases = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    return {case["name"]: case for case in cases}


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Iterator[dict[str, Future]]:
    """The reports of all families, which run two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {family: pool.submit(reported, family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request, reports) -> tuple[str, dict[str, dict]]:
    return request.param, reports[request.param].result()


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_case_ends_in_a_result_or_a_typed_error(family):
    name, cases = family
    assert len(cases) >= FAMILIES[name]
    assert not [(case["name"], case["crash"]) for case in cases.values() if case["crash"]]
    assert cases["clean"]["result"]


def test_what_is_refused_and_what_is_used(family):
    name, cases = family
    if name == "rows":
        pytest.skip("a bad row is no refused file; see below")
    verdicts = {case["name"]: case["refused"] for case in cases.values() if not case["name"].startswith(RUNS)}
    assert not [each for each in verdicts.items() if each[0].startswith("ok-") and each[1]]
    assert not [each for each in verdicts if each.startswith("bad-") and not verdicts[each]]
    assert all(len(reason) < 2000 for reason in verdicts.values() if reason)


def test_nothing_takes_long(family):
    _, cases = family
    assert not [
        (c["name"], c["cpu"]) for c in cases.values() if c["cpu"] > SECONDS and not c["name"].startswith("run-")
    ]
    assert not [(c["name"], c["seconds"]) for c in cases.values() if c["seconds"] > WAITING and c["cpu"] < SECONDS / 2]


def test_memory_stays_near_that_of_a_clean_run(family):
    _, cases = family
    most = max(cases.values(), key=lambda case: case["grown"])
    above = max(case["peak"] for case in cases.values()) - cases["clean"]["peak"]
    assert above < MEGABYTES, (above, most["name"])


def test_nothing_else_is_touched(family):
    """No file outside the root is opened, nothing unpickled, no connection made."""
    _, cases = family
    assert not [(case["name"], case["seen"]) for case in cases.values() if case["seen"]]
    results = [case["result"] for case in cases.values() if isinstance(case["result"], dict)]
    assert not any(result.get("canaries") or result.get("canary") or result.get("ran") for result in results)


def test_rows_fail_alone_and_by_name(family):
    """Each row is recorded once, a failed one with file and row, the exit code tells; good rows are answered."""
    _, cases = family
    for name, case in cases.items():
        result = case["result"]
        if not isinstance(result, dict) or "rows" not in result:
            continue
        rows = result["rows"]
        failed = [row for row in rows if row["status"] == "error"]
        assert result["code"] == (2 if failed or not rows else 0), name
        assert [row["row"] for row in rows] == sorted({row["row"] for row in rows}), name
        assert len({row["id"] for row in rows}) == len(rows), name
        assert all(f":{row['row']}: " in row["error"] and len(row["error"]) < 3000 for row in failed), name
        between = {row["status"] for row in rows if row["id"] not in ("first", "last")}
        if name.startswith(("ok-", "bad-", "any-")) and name.endswith(".jsonl"):
            assert [rows[0]["id"], rows[0]["status"], rows[-1]["id"], rows[-1]["status"]] == [
                "first",
                "ok",
                "last",
                "ok",
            ], name
            assert len(rows) > 2, name
            assert name.startswith("any-") or between == {"ok" if name.startswith("ok-") else "error"}, (name, failed)
        elif name.startswith("bench-"):
            assert [row["row"] for row in failed] == result["bad"], name
        elif name.startswith("path "):
            assert [row["status"] for row in rows][::2] == ["ok", "ok"], name
            assert rows[1]["status"] == "error" and "field 'images'" in rows[1]["error"], name
        elif name.startswith(("addresses", "paths")):
            assert between == {"error"}, name


def test_no_name_in_data_becomes_a_path(family):
    name, cases = family
    if name != "rows":
        pytest.skip("ids are tried with the rows")
    for case in (case for case in cases.values() if isinstance(case["result"], dict)):
        assert all(
            picture.startswith(f"{row['row']}/")
            for row in case["result"].get("rows", [])
            for picture in row["question_images"]
        )
    assert all(case["result"]["code"] == 2 for case in cases.values() if case["name"].startswith("input-"))
