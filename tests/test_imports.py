"""Imports point one way: the order of the rooms, as the README draws it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each may import those before it; modules of one room import each other only within `ops`.
ROOMS = [
    ("codegen", "codegen.errors", "codegen.paths"),
    ("codegen.fixedpoint",),
    ("codegen.ops",),
    ("codegen.graph", "codegen.spec", "codegen.board", "codegen.data"),
    ("codegen.interpret",),
    ("codegen.layout", "codegen.passes"),
    ("codegen.report", "codegen.tuning", "codegen.weights"),
    ("codegen.emit",),
    ("codegen.pipeline", "codegen.firmware"),
    ("codegen.sparse",),
    ("codegen.show",),
    ("codegen.cli",),
]
# Modules of this room may know each other.
WITHIN = "codegen.ops"
SOURCES = sorted((ROOT / "codegen").rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> int:
    """The room with the longest name that contains the module."""
    found = [
        (len(name), level)
        for level, names in enumerate(ROOMS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(found)[1]


def imported(path: Path, everywhere: bool) -> Iterator[str]:
    """Modules that a file imports: `everywhere`, or when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else top_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: a relative import"
            module = ROOT.joinpath(*node.module.split("."))
            for alias in node.names:
                inner = module / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if inner.is_file() else node.module


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run at import; those under `if TYPE_CHECKING` do not."""
    return iter(tree.body)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_imports_only_rooms_below_its_own(path: Path) -> None:
    module = module_of(path)
    for other in imported(path, everywhere=True):
        if not other.startswith("codegen"):
            continue
        same = room_of(other) == room_of(module) and module.startswith(WITHIN)
        below = room_of(other) < room_of(module)
        assert below or same or other == module, f"{module} imports {other}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_the_generator_knows_the_simulator_only_where_commands_simulate(path: Path) -> None:
    if module_of(path) == "codegen.cli":
        assert not [m for m in imported(path, everywhere=False) if m.startswith("host_sim")]
        return
    used = {m for m in imported(path, everywhere=True) if m.startswith("host_sim")}
    if module_of(path) == "codegen.show":  # for types
        used -= {m for m in used if not [n for n in imported(path, False) if n == m]}
    assert not used


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_jinja_lives_in_emit_and_printing_in_cli(path: Path) -> None:
    modules = set(imported(path, everywhere=True))
    assert "jinja2" not in modules or module_of(path) == "codegen.emit"
    text = path.read_text(encoding="utf-8")
    printing = "print(" in text.replace("_console().print(", "") or "click.echo(" in text
    assert not printing or module_of(path) == "codegen.cli"


OPS = [path for path in SOURCES if module_of(path).startswith("codegen.ops")]
MATHEMATICS = {
    *("collections.abc", "dataclasses", "functools", "inspect", "math", "typing"),
    *("numpy", "numpy.typing", "codegen.fixedpoint"),
}


@pytest.mark.parametrize("path", OPS, ids=module_of)
def test_ops_see_numbers_and_each_other_but_no_graph_and_no_file(path: Path) -> None:
    others = {m for m in imported(path, everywhere=True) if not m.startswith("codegen.ops")}
    assert others <= MATHEMATICS
    assert "open(" not in path.read_text(encoding="utf-8")


def test_a_forbidden_import_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from codegen.emit import emit\n")
    assert list(imported(bad, everywhere=True)) == ["codegen.emit"]
    assert room_of("codegen.emit") > room_of("codegen.ops.dense")
