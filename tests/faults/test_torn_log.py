"""The log of a run, cut off in its last record or with a bit flipped: noticed or mended, never believed."""

import json
import random

import pytest

from omni_r1.errors import InputError
from omni_r1.files import AppendLog
from omni_r1.run_record import ANSWERS
from run_files import differences

pytestmark = pytest.mark.timeout(300)

FLIPS = 1000


@pytest.fixture
def run(generate, tmp_path):
    """A finished run: its folder, the bytes of its log, its rows."""
    assert generate(tmp_path / "whole") == 0
    folder = tmp_path / "whole" / "rows"
    with AppendLog(folder / ANSWERS) as log:
        return folder, (folder / ANSWERS).read_bytes(), log.rows


def interrupted(generate, tmp_path, content: bytes):
    """The folder of a run whose log has this content."""
    if not (tmp_path / "cut").exists():
        assert generate(tmp_path / "cut") == 0
    (tmp_path / "cut" / "rows" / ANSWERS).write_bytes(content)
    return tmp_path / "cut" / "rows"


def test_cut_at_every_byte_of_the_last_record(generate, run, tmp_path):
    whole, content, rows = run
    last = content.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(last, len(content)):
        path = tmp_path / "log.jsonl"
        path.write_bytes(content[:length])
        with AppendLog(path) as log:
            assert log.rows == rows[:-1]
        assert path.read_bytes() == content[:last]
    for length in (last, last + 1, (last + len(content)) // 2, len(content) - 2, len(content) - 1):
        folder = interrupted(generate, tmp_path, content[:length])
        assert generate(folder.parent) == 0
        assert differences(whole, folder) == 0


def test_flipped_bits(generate, run, tmp_path, capsys):
    """A flip is an error that names file and row, or changes nothing; one of the last line's end drops that line."""
    whole, content, rows = run
    path, rng = tmp_path / "log.jsonl", random.Random(0)
    outcomes = {"noticed": 0, "the same": 0, "dropped": 0}
    for _ in range(FLIPS):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        flipped = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
        path.write_bytes(flipped)
        try:
            with AppendLog(path) as log:
                assert log.rows in (rows, rows[:-1]), place
                assert log.rows == rows or place == len(content) - 1
                outcomes["the same" if log.rows == rows else "dropped"] += 1
        except InputError as error:
            assert error.file == path and error.row == content[:place].count(b"\n") + 1
            assert path.read_bytes() == flipped  # nothing was taken away
            outcomes["noticed"] += 1
    print(outcomes)
    assert outcomes["noticed"] > 0.99 * FLIPS


def test_a_run_with_a_damaged_log_does_not_go_on(generate, run, tmp_path, capsys):
    whole, content, rows = run
    place = content.index(b'"tokens"', content.index(b"\n")) + 12  # of the second row
    folder = interrupted(generate, tmp_path, content[:place] + b"9" + content[place + 1 :])
    summary = (folder / "summary.json").read_bytes()
    capsys.readouterr()
    assert generate(folder.parent) == 2
    [line] = [line for line in capsys.readouterr().err.split("\n") if "error" in line]
    assert line.startswith(f"omni-r1: error: {folder / ANSWERS}:2: damaged row:")
    assert (folder / "summary.json").read_bytes() == summary
    assert generate(folder.parent, "--no-resume") == 0
    assert differences(whole, folder) == 0
    assert json.loads(summary)["rows"] == 2
