"""What a run of `generate` must have in its folder, whatever happened to it; and when two runs are the same."""

import io
import json
from pathlib import Path

from PIL import Image

from omni_r1.bench.suites import load_suite
from omni_r1.files import CRC, UNFINISHED, AppendLog, _sum, parse_line
from omni_r1.run_record import ANSWERS, RUN, SUMMARY

LAST_DIGIT = 2e-4  # of the log-probability: floating-point sums depend on which rows are in the batch


def write_questions(folder: Path, count: int, bad: frozenset[int] = frozenset()) -> Path:
    """The first questions of the miniature's bench, as JSONL and PNG; of rows in `bad` the picture is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for question in load_suite().questions[:count]:
        name = f"{question.row}.png"
        if question.row not in bad:
            (folder / name).write_bytes(question.images[0])
        lines.append(json.dumps({"id": question.id, "prompt": question.text, "images": [name]}) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines))
    return folder / "rows.jsonl"


class Inspector:
    """Reads a run folder after each interruption. A file that is as it was at the last visit is not read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, tuple[int, int, int]] = {}
        self.logged: set[tuple[str, int]] = set()
        self.leftovers = self.torn = 0

    def visit(self) -> int:
        """The number of rows in the log. Asserts that every file can be read, and that no row was lost or doubled."""
        for path in sorted(self.folder.rglob("*")):
            if path.name.startswith("."):
                assert path.name.endswith(UNFINISHED), path
                self.leftovers += 1
            elif path.is_file() and path.name != ANSWERS:
                stat = path.stat()
                state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if self.seen.get(path) != state:
                    read(path)
                    self.seen[path] = state
        if not (self.folder / ANSWERS).exists():
            assert not self.logged
            return 0
        *lines, rest = (self.folder / ANSWERS).read_bytes().split(b"\n")
        self.torn += bool(rest)
        rows = [parse_line(line) for line in lines]
        assert all(row.pop(CRC) == _sum(row) for row in rows)
        keys = {(row["id"], row["sample"]) for row in rows}
        assert len(keys) == len(rows) and keys >= self.logged
        for row in rows:
            if (row["id"], row["sample"]) not in self.logged:  # whatever the log says is there, is
                listed = row["question_images"] + row["images"]
                assert all((self.folder / name) in self.seen for name in listed), row["id"]
        self.logged = keys
        return len(rows)


def read(path: Path) -> None:
    if path.suffix == ".png":
        Image.open(io.BytesIO(path.read_bytes())).load()
    else:
        assert isinstance(json.loads(path.read_text()), dict), path


def differences(one: Path, other: Path) -> int:
    """Rows whose log-probability differs in its last digit. Asserts that all else in two finished runs is identical.

    Not compared is what says when and how fast: run.json and summary.json, beyond the counts in it.
    """
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, other)]
    assert names[0] == names[1]
    counts = [json.loads((folder / SUMMARY).read_text()) for folder in (one, other)]
    assert [counts[0][key] for key in ("rows", "failed")] == [counts[1][key] for key in ("rows", "failed")]
    for name in names[0]:
        files = [folder / name for folder in (one, other)]
        if files[0].is_file() and name not in (RUN, SUMMARY, ANSWERS):
            contents = [file.read_bytes() for file in files]
            if contents[0] != contents[1]:
                assert name.endswith(".json"), name
                same([json.loads(content) for content in contents])
    logs = []
    for folder in (one, other):
        with AppendLog(folder / ANSWERS) as log:
            logs.append(log.rows)
    assert len(logs[0]) == len(logs[1])
    return sum(same([*pair]) for pair in zip(*logs, strict=True))


def same(rows: list[dict]) -> bool:
    """Whether the log-probabilities of two equal rows differ."""
    logprobs = [row.pop("logprob") for row in rows]
    assert rows[0] == rows[1] and abs(logprobs[0] - logprobs[1]) < LAST_DIGIT
    return logprobs[0] != logprobs[1]
