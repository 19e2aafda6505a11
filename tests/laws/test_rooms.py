"""The rooms of the architecture: which module may import which at module level, and how long a file may get."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
LONGEST = 450  # lines

# What every room may use: they import nothing heavy, and of the rooms nothing.
COMMON = {"answering_options", "errors", "option_parser", "options", "run_record", "shipped"}
# Room -> what it may import; and what those may import it may import too.
ROOMS = {
    "trajectory": set(),
    "files": set(),
    "pixels": set(),
    "vocabulary": {"trajectory"},
    "grammar": {"vocabulary"},
    "model": {"grammar", "files", "pixels"},
    "generate": {"model"},
    "data": {"model"},
    "pesft": {"data", "perpo.reward"},
    "perpo.grading": {"trajectory"},
    "perpo.reward": {"grammar", "perpo.grading"},
    "perpo": {"generate", "perpo.reward", "pesft"},
    "zero": {"perpo"},
    "bench": {"generate", "perpo.reward"},
    "show": {"bench", "data"},
}
ROOMS["cli"] = set(ROOMS)

# Modules that need an optional extra: the package that comes with it.
NEED = {f"omni_r1.generate.{name}": "vllm" for name in ("vllm_grammar", "vllm_grammar_v2", "vllm_model")}
VERL = ("agent_loop", "check", "dataset", "engine", "launch", "reward_manager")
NEED |= {f"omni_r1.perpo.verl_plugins.{name}": "verl" for name in VERL}
NEED["omni_r1.bench.lmms_eval_model"] = "lmms_eval"

PATHS = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def room_of(module: str) -> str | None:
    """The innermost room a dotted name lies in; None for what is not this project's, or its top's own names."""
    top, *parts = module.split(".")
    if top != "omni_r1" or not parts or parts[0].startswith("__"):
        return None
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((name for name in names if name in ROOMS or name in COMMON), parts[0])


def reach(room: str) -> set[str]:
    """The room and all it may import."""
    return {room} | COMMON | {far for near in ROOMS.get(room, ()) for far in reach(near)}


def imports(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what is imported when the module is: not in functions, not for type checkers."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from ((statement.lineno, alias.name) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert not statement.level, f"line {statement.lineno}: a relative import"
            yield from ((statement.lineno, f"{statement.module}.{alias.name}") for alias in statement.names)
        elif isinstance(statement, ast.If):
            if ast.unparse(statement.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                yield from imports(statement.body)
            yield from imports(statement.orelse)
        elif isinstance(statement, ast.Try):
            for part in (statement.body, *(handler.body for handler in statement.handlers)):
                yield from imports(part)
            yield from imports(statement.orelse + statement.finalbody)
        elif isinstance(statement, ast.With | ast.ClassDef):
            yield from imports(statement.body)


def test_there_are_modules():
    assert {"omni_r1", "omni_r1.cli", "omni_r1.trajectory"} <= set(PATHS)


def test_rooms_do_not_go_in_circles():
    for room in ROOMS:
        assert all(room not in reach(near) for near in ROOMS[room])


@pytest.mark.parametrize("module", PATHS)
def test_module_is_in_a_known_room(module):
    room = room_of(module)
    assert room is None or room in ROOMS or room in COMMON


@pytest.mark.parametrize("module", PATHS)
def test_imports_respect_the_rooms(module):
    room = room_of(module)
    allowed = reach(room) if room in ROOMS else COMMON
    where = PATHS[module].relative_to(SOURCE)
    named = list(imports(ast.parse(PATHS[module].read_text()).body))
    wrong = [f"{where}:{line} imports {name}" for line, name in named if room_of(name) not in allowed | {None, room}]
    assert not wrong


@pytest.mark.parametrize("module", PATHS)
def test_file_is_short_enough_to_read(module):
    assert len(PATHS[module].read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("module", PATHS)
def test_module_imports(module):
    if module in NEED:
        pytest.importorskip(NEED[module])
    import_module(module)
