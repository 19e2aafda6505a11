import json
import subprocess
import sys
from importlib.metadata import version

from omni_r1 import __version__, run_record
from omni_r1.options import ReportOptions
from omni_r1.run_record import describe_run, progress


def test_describe_run():
    run = json.loads(json.dumps(describe_run(ReportOptions("somewhere"), 7)))
    assert run["options"] == {"run_dir": "somewhere", "model_path": None}
    assert run["seed"] == 7
    assert run["versions"]["omni-r1"] == __version__
    assert run["versions"]["torch"] == version("torch")
    assert run["python"] == sys.version.split()[0]


def test_the_machine_s_gpus_are_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda place: f"card {place}")
    assert describe_run(ReportOptions("somewhere"), 7)["machine"].endswith(" CPUs, card 0, card 1")


def test_commit(tmp_path, monkeypatch):
    """Of the checkout the code lies in; none outside one, nor where the code is only installed inside one."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code = tmp_path / "code.py"
    code.write_text("1")
    monkeypatch.setattr(run_record, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_run(ReportOptions("x"), 0)["commit"] is None
    git("init")
    assert describe_run(ReportOptions("x"), 0)["commit"] is None
    git("add", "code.py")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert describe_run(ReportOptions("x"), 0)["commit"] == commit
    code.write_text("2")
    assert describe_run(ReportOptions("x"), 0)["commit"] == commit + "+"


def test_progress_shows_rate_and_goes_to_stderr(capsys):
    with progress(2, "row", "reading") as bar:
        bar.update(2)
    shown = capsys.readouterr()
    assert not shown.out
    assert "reading" in shown.err and "2/2" in shown.err and "row" in shown.err
