"""Law 8: nothing in the sources that runs data as code, and no path in data that leaves its root."""

import ast
import os
from pathlib import Path

import pytest

from omni_r1.errors import InputError
from omni_r1.files import confined

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
CALLS |= {"torch.load", "yaml.load", "numpy.load", "np.load"}
TRUE_KEYWORDS = {"trust_remote_code", "shell", "allow_pickle"}
HARMLESS = {"np.load", "numpy.load"}  # without allow_pickle, its default


def forbidden(tree):
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield node.lineno, f"import {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS - HARMLESS:
                yield node.lineno, called
            for keyword in node.keywords:
                off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg in TRUE_KEYWORDS and not off:
                    yield node.lineno, f"{keyword.arg}="


def test_the_check_sees_what_it_should():
    bad = [
        "import pickle",
        "from dill import x",
        "torch.load(f)",
        "eval(s)",
        "f(trust_remote_code=True)",
        "run(shell=x)",
    ]
    assert all(list(forbidden(ast.parse(line))) for line in bad)
    good = ["model.eval()", "re.compile(x)", "literal_eval(x)", "f(trust_remote_code=False)", "np.load(f)"]
    assert not any(list(forbidden(ast.parse(line))) for line in good)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_sources(source):
    assert list(forbidden(ast.parse(source.read_text(encoding="utf-8")))) == []


HOSTILE = [
    "",
    "..",
    "../",
    "../x",
    "../root-other/x",
    "a/../../x",
    "a/../../../../../../../../etc/passwd",
    "./../x",
    "a/./../../x",
    "../" * 40 + "etc/passwd",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "a\0",
    "\0",
    "a\0/../../x",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "FILE:///etc/passwd",
    "http://example.invalid/a.png",
    "https://example.invalid/a.png",
    "ftp://example.invalid/a.png",
    "link-out",
    "link-out/x",
    "link-up",
    "link-up/x",
    "link-chain/x",
    "link-device",
    "loop",
    "loop/x",
    "fifo",
    "a/fifo",
    "x" * 5000,
    "\ud800",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    base = tmp_path_factory.mktemp("confined")
    root = base / "root"
    (root / "a").mkdir(parents=True)
    (base / "root-other").mkdir()
    (base / "root-other" / "x").write_text("secret")
    (base / "x").write_text("secret")
    os.symlink("/etc", root / "link-out")
    os.symlink("..", root / "link-up")
    os.symlink("link-up", root / "link-chain")
    os.symlink("/dev/zero", root / "link-device")
    os.symlink("loop", root / "loop")
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "a" / "fifo")
    return root


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: ascii(path)[:40])
def test_hostile_paths(root, path):
    with pytest.raises(InputError):
        confined(root, path)


def test_enough_hostile_paths():
    assert len(set(HOSTILE)) >= 30


def test_a_link_that_stays_inside(root):
    os.symlink("a", root / "inside")
    assert confined(root, "inside/b") == root.resolve() / "a" / "b"
