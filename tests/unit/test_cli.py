import os
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from importlib import import_module
from types import ModuleType

import pytest

from omni_r1 import __version__, cli
from omni_r1.errors import InputError
from omni_r1.options import option

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "PIL")
SHOW_HEAVY = f"""
import sys
from omni_r1.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


@dataclass
class FakeOptions:
    """A verb for these tests."""

    count: int = option(0, help="how many")


@pytest.fixture
def fake(monkeypatch):
    """Puts a verb `fake` in the table, whose function is the one given."""

    def install(function):
        module = ModuleType("fake_verb")
        module.function = function
        monkeypatch.setitem(sys.modules, "fake_verb", module)
        monkeypatch.setitem(cli.VERBS, "fake", cli.Verb("fake_verb:function", FakeOptions, "for tests"))

    return install


def python(*words: str) -> str:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_imports_nothing_heavy(words):
    assert python("-c", SHOW_HEAVY, *words).endswith("heavy: []\n")


def test_help_is_quick():
    seconds = []
    for _ in range(3):  # the best of three: a busy machine is not what is tested
        started = time.perf_counter()
        python("-m", "omni_r1.cli", "--help")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


def test_help_lists_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in shown and verb.summary in shown


@pytest.mark.parametrize("name", cli.VERBS)
def test_verb_help_shows_every_option(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for item in fields(cli.VERBS[name].options):
        assert f"  --{item.name.replace('_', '-')} " in shown
        assert item.metadata["help"] in shown


@pytest.mark.parametrize("name", cli.VERBS)
def test_verb_exists(name):
    module, _, function = cli.VERBS[name].function.partition(":")
    assert callable(getattr(import_module(module), function))


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_no_verb(capsys):
    assert cli.main([]) == 2
    assert "usage: omni-r1" in capsys.readouterr().err


def test_unknown_verb(capsys):
    assert cli.main(["genrate"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("omni-r1: error: no verb 'genrate'; the nearest is generate; there are demo, generate, ")
    assert error.count("\n") == 1
    assert cli.main(["frobnicate"]) == 2
    assert capsys.readouterr().err.startswith("omni-r1: error: no verb 'frobnicate'; there are demo, generate, ")


@pytest.mark.parametrize("code", [0, 2])
def test_exit_code_of_the_verb(code, fake):
    fake(lambda options: code)
    assert cli.main(["fake"]) == code


def test_options_reach_the_verb(fake):
    fake(lambda options: options.count)
    assert cli.main(["fake", "--count", "7"]) == 7


def test_error_is_one_line(fake, capsys):
    def fail(options):
        raise InputError("broken\n  in two", file="rows.jsonl", row=3, field="images")

    fake(fail)
    assert cli.main(["fake"]) == 2
    assert capsys.readouterr().err == "omni-r1: error: rows.jsonl:3: field 'images': broken in two\n"


def test_bad_option_ends_with_2(fake, capsys):
    fake(lambda options: 0)
    assert cli.main(["fake", "--cuont", "7"]) == 2
    assert capsys.readouterr().err == "omni-r1: error: unknown option --cuont; the nearest is --count\n"


def test_interrupted(fake):
    def interrupt(options):
        raise KeyboardInterrupt

    fake(interrupt)
    assert cli.main(["fake"]) == 130


PIPED = """
import sys
from types import ModuleType
from omni_r1 import cli, options
module = sys.modules["fake_verb"] = ModuleType("fake_verb")
module.function = lambda options: [print("x" * 99) for _ in range(int(sys.argv[1]))] and 0
cli.VERBS["report"] = cli.Verb("fake_verb:function", options.ReportOptions, "for tests")
sys.exit(cli.main(["report", "--run-dir", "x"]))
"""


@pytest.mark.parametrize("how", [[], ["-u"]])  # -u: without a buffer
@pytest.mark.parametrize("lines", [1, 10_000])  # within the buffer of a stream, and beyond
def test_output_that_nobody_reads_ends_quietly(lines, how, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, *how, "-c", PIPED, str(lines)]
    ended = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("error", [BrokenPipeError, ZeroDivisionError])  # the first of a pipe that is not ours
def test_other_errors_are_not_hidden(error, fake):
    def fail(options):
        raise error

    fake(fail)
    with pytest.raises(error):
        cli.main(["fake"])
