from __future__ import annotations

from pathlib import Path

from vidinit import config


def test_every_field_is_explained():
    """The text under a field is its help: no field without one."""
    import ast

    house = Path(config.__file__).parents[1]
    files = sorted([*house.glob("config/*.py"), *house.glob("pipelines/*/settings.py")])
    checked = 0
    for node in (node for file in files for node in ast.parse(file.read_text()).body):
        if not isinstance(node, ast.ClassDef) or not node.name.endswith(("Config", "Section")):
            continue
        for i, item in enumerate(node.body):
            if isinstance(item, ast.AnnAssign) and "default_factory" not in ast.unparse(item):
                if "ClassVar" in ast.unparse(item.annotation):
                    continue
                if ast.unparse(item.target) in ("model", "sources") and node.name != "RunConfig":
                    continue
                after = node.body[i + 1] if i + 1 < len(node.body) else None
                assert isinstance(after, ast.Expr), f"{node.name}.{ast.unparse(item.target)}"
                checked += 1
    assert checked > 120
