"""Public functions say the types that they take and return; mypy checks them (`[mypy]` in setup.cfg)."""

import ast
from pathlib import Path

import pytest

import layerwise.comparison

FOLDER = Path(layerwise.comparison.__file__).parent


def public_functions(body):
    """Yield the functions, and the methods of classes, whose names have no underscore in front."""
    for node in body:
        public = not getattr(node, "name", "_").startswith("_")
        if isinstance(node, ast.FunctionDef) and (public or node.name in ("__init__", "__call__")):
            yield node
        elif isinstance(node, ast.ClassDef) and public:
            yield from public_functions(node.body)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_public_functions_are_annotated(path):
    for function in public_functions(ast.parse(path.read_text()).body):
        given = function.args
        arguments = [*given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        bare = [
            argument.arg
            for argument in arguments
            if argument and not argument.annotation and argument.arg not in ("self", "cls")
        ]
        assert not bare, f"{function.name} (line {function.lineno})"
        assert function.returns or function.name == "__init__", function.name
