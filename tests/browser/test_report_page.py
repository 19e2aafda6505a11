"""The report in a real browser: Chromium loads the page, runs its script, and prints the document it then holds."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fake_run import fake_run, write_rows
from omni_r1.show.records import read_records
from omni_r1.show.report import report
from omni_r1.show.strip import drawings_verdict, verdict_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
PWNED = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fake_run(tmp_path_factory.mktemp("report") / "run", rows=44)
    records, _ = read_records(run / "results.jsonl")
    records[1]["segments"][0]["text"] = records[1]["question"] = PWNED
    write_rows(run, records)
    return report(run)


def loaded(page: Path, place: str, tmp_path: Path) -> str:
    quiet = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    return subprocess.run(
        [str(CHROMIUM), *quiet.split(), f"--user-data-dir={tmp_path}", "--dump-dom", f"{page.as_uri()}#{place}"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def shown(html: str) -> list[int]:
    """Numbers of the rows that are not hidden."""
    rows = re.findall(r"<article [^>]*>", html)
    return [number for number, row in enumerate(rows, 1) if " hidden" not in row]


@pytest.mark.parametrize(
    ("place", "fits"),
    [
        ("", lambda row: True),
        ("task=board&verdict=wrong", lambda row: row["task"] == "board" and verdict_of(row) == "wrong"),
        ("verdict=failed", lambda row: row["status"] == "error"),
        ("steps=wrong&verdict=right", lambda row: drawings_verdict(row) == "wrong" and verdict_of(row) == "right"),
        ("q=SCENE-002", lambda row: row["id"].startswith("scene-002")),
        ("task=none", lambda row: True),
        ("r30", lambda row: True),
    ],
)
def test_the_address_chooses_the_rows(page: Path, place: str, fits, tmp_path: Path) -> None:
    html = loaded(page, place, tmp_path)
    records, _ = read_records(page.parent / "results.jsonl")
    wanted = [number for number, row in enumerate(records, 1) if fits(row)]
    assert shown(html) == wanted
    assert re.search(rf"<output [^>]*>{len(wanted)} of 44</output>", html)
    assert "<title>miniature – Omni-R1</title>" in html  # no script but the page's own has run
