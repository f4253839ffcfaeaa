"""How the experiments' files are built: small, documented by examples that run, and without each other's secrets."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "experiments").rglob("*.py"))
PROGRAMS = [path for path in PATHS if path.name == "__main__.py"]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_files_are_small_and_keep_their_private_names(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < 200
        if isinstance(node, ast.ImportFrom):
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            assert not private or node.value.id in ("self", "cls"), ast.unparse(node)


@pytest.mark.parametrize("path", [p for p in PATHS if p not in PROGRAMS], ids=name_of)
def test_examples_run(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_public_functions_have_type_hints(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            given = [*node.args.args, *node.args.kwonlyargs]
            assert node.returns is not None, node.name
            assert all(argument.annotation for argument in given), node.name
