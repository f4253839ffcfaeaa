"""What CONTRIBUTING.md says about where things go."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "layerwise").rglob("*.py")) + sorted((ROOT / "experiments").rglob("*.py"))
OUTSIDE_BACKENDS = [path for path in MODULES if "backends" not in path.parts]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", OUTSIDE_BACKENDS, ids=name_of)
def test_private_names_of_keras_live_in_backends(path):
    for node in ast.walk(ast.parse(path.read_text())):
        found = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Call)) else ""
        assert not found.startswith("keras.src")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not any(name.startswith("keras.src") for name in names)


# An experiment on cost may know which framework's counters it reads; the package may not.
PACKAGE = [path for path in OUTSIDE_BACKENDS if "layerwise" in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_the_choice_of_a_backend_lives_in_backends(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            assert "backend()" not in ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_needs_anothers_private_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("layerwise"):
            names = {alias.name for alias in node.names} - {"__version__"}
            assert not [name for name in names if name.startswith("_")]


def test_importing_loads_no_other_framework():
    # TensorFlow and Keras load some of another by themselves where it is installed.
    others = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
    code = "import sys, keras; before = set(sys.modules); import layerwise\n"
    code += f"print(sorted({others!r} & (sys.modules.keys() - before)))"
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]", said.stderr
