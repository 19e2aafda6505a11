"""Starting a run again: what is asked once more, what is kept, what is taken away."""

import pytest

from omni_r1.files import AppendLog
from omni_r1.run_record import ANSWERS, REPORT, SUMMARY
from run_files import Inspector, differences


def rows_of(folder) -> list[dict]:
    with AppendLog(folder / ANSWERS) as log:
        return log.rows


def test_failed_rows_are_tried_again_only_when_asked(generate, tmp_path, capsys):
    whole, folder = tmp_path / "whole" / "rows", tmp_path / "out" / "rows"
    assert generate(whole.parent) == 0
    picture = tmp_path / "input-2" / "1.png"
    content = picture.read_bytes()
    picture.unlink()
    assert generate(folder.parent) == 2
    assert [row["status"] for row in rows_of(folder)] == ["error", "ok"]  # one failing row costs no other
    picture.write_bytes(content)
    assert generate(folder.parent) == 2 and [row["status"] for row in rows_of(folder)] == ["error", "ok"]
    done = (folder / "2" / "result.json").stat().st_mtime_ns
    (folder / REPORT).write_text("a page of what was there")
    capsys.readouterr()
    assert generate(folder.parent, "--retry-errors") == 0
    said = capsys.readouterr().err
    assert "1 answers are there already" in said and f"{REPORT} taken away, as the run goes on" in said
    assert not (folder / REPORT).exists()
    assert (folder / "2" / "result.json").stat().st_mtime_ns == done  # not written again
    assert Inspector(folder).visit() == 2 and differences(whole, folder) == 0


def test_a_run_of_other_options_stays_as_it_is(generate, tmp_path, capsys):
    folder = tmp_path / "out" / "rows"
    assert generate(folder.parent) == 0
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert generate(folder.parent, "--max-new-tokens", "20") == 2
    assert "field 'max_new_tokens': was 4096 in the run that is to go on" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    assert folder / SUMMARY in kept


@pytest.mark.parametrize("more", [(), ("--no-resume",)])
def test_what_killed_writes_left_is_removed(generate, tmp_path, more):
    folder = tmp_path / "out" / "rows"
    assert generate(folder.parent) == 0
    left = [folder / ".summary.json.k2j4.unfinished", folder / "1" / ".image_1.png.x_9a.unfinished"]
    for path in (*left, folder / ".gitignore"):  # somebody else's stays
        path.write_bytes(b"half of it")
    assert generate(folder.parent, *more) == 0
    assert [path.name for path in folder.rglob(".*")] == [".gitignore"]
