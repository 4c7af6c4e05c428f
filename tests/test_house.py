"""The house: which room may import which, and that no two import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (
    ("errors", "version"),
    ("extras", "processes"),
    ("console",),
    ("files",),
    ("config",),
    ("data",),
    ("zoo",),
    ("text",),
    ("checkpoint",),
    ("measure",),
    ("conversion",),
    ("engine",),
    ("detection",),
    ("scoring",),
    ("report",),
    ("pipelines",),
    ("exports",),
    ("demo", "doctor"),
    ("commands",),
    ("__main__",),
)
"""The rooms below `vidinit`, from the ground up: a room imports rooms of lower floors alone."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
CROWDED = 20


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the library and of the command line, by the name it is installed under."""
    found = {}
    for folder, package in (("vidinit", "vidinit"), ("commands", "vidinit.commands")):
        for file in sorted((root / folder).rglob("*.py")):
            parts = [package, *file.relative_to(root / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(name: str, text: str, *, is_package: bool) -> Iterator[tuple[str, int]]:
    """Modules of ours that a module imports, at its head or inside functions, and the lines."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and is_for_types(child):
                for other in child.orelse:
                    yield other
                    yield from walk(other)
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((one.name, node.lineno) for one in node.names if of_ours(one.name))
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".") if is_package else name.split(".")[:-1]
            base = base[: len(base) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            for one in node.names:
                whole = f"{full}.{one.name}"
                if of_ours(full):
                    yield (whole if whole in MODULES else full), node.lineno


def of_ours(name: str) -> bool:
    return name.partition(".")[0] == "vidinit"


def room(name: str) -> str:
    """The file or folder directly below `vidinit`; empty for the package's own face."""
    return name.split(".")[1] if "." in name else ""


def all_imports() -> Iterator[tuple[str, str, int]]:
    for name, file in MODULES.items():
        is_package = file.name == "__init__.py"
        for target, line in imports(name, file.read_text("utf-8"), is_package=is_package):
            if target != name:
                yield name, target, line


def upward(name: str, target: str) -> bool:
    """True for an import between rooms that does not point down. The face may import anything."""
    here, there = room(name), room(target)
    if here == there or not here or not there:
        return bool(here) and not there and here != "commands"
    return FLOOR[there] >= FLOOR[here]


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in MODULES} - {""} == set(FLOOR)


def test_imports_point_down_inside_functions_too() -> None:
    wrong = [f"{a}:{line} imports {b}" for a, b, line in all_imports() if upward(a, b)]
    assert wrong == []


@pytest.mark.parametrize("code", [
    "from ..pipelines.run import run",
    "def f():\n    from ..pipelines import run",
    "import vidinit.pipelines.run",
    "if TYPE_CHECKING:\n    pass\nelse:\n    from ..report import html",
])  # fmt: skip
def test_an_import_that_points_up_is_found(code: str) -> None:
    name = "vidinit.engine.fit"
    assert any(upward(name, target) for target, _ in imports(name, code, is_package=False))


def test_imports_for_types_may_point_anywhere() -> None:
    code = (
        "if TYPE_CHECKING:\n    from ..pipelines.run import run\nfrom ..zoo.base import VideoModel"
    )
    found = list(imports("vidinit.engine.fit", code, is_package=False))
    assert [target for target, _ in found] == ["vidinit.zoo.base"]


def test_no_two_modules_import_each_other() -> None:
    """Neither directly nor by way of others."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, target, _ in all_imports():
        if target in graph and room(target):
            graph[name].add(target)
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += graph[one]
        reached[start] = seen
    assert [name for name in graph if name in reached[name]] == []


def test_the_library_does_not_import_the_command_line() -> None:
    users = {a for a, b, _ in all_imports() if room(b) == "commands" and room(a) != "commands"}
    assert users == {"vidinit.__main__"}


def test_no_room_is_crowded_and_every_one_says_what_it_is_for() -> None:
    folders = {file.parent for file in MODULES.values()}
    crowded = {str(f): n for f in folders if (n := len(list(f.glob("*.py")))) > CROWDED + 1}
    assert crowded == {}
    for file in MODULES.values():
        text = ast.get_docstring(ast.parse(file.read_text("utf-8")))
        assert text, f"{file} does not say what it is"


def test_names_do_not_collide_with_public_functions() -> None:
    """A folder of the name of a public function would hide the function behind it."""
    import vidinit

    assert not {p.name for p in (ROOT / "vidinit").iterdir() if p.is_dir()} & set(vidinit.__all__)
