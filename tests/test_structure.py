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


PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}  # of named tuples and of os
OWN = ("self", "cls")


def private_accesses(source):
    """`line: expression` of every private attribute that the file takes from what it does not define itself."""
    tree = ast.parse(source)
    defined = set(PUBLIC)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        if isinstance(node, ast.ClassDef):
            targets = [t for line in node.body for t in getattr(line, "targets", [])]
            targets += [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            defined |= {node.attr} if ast.unparse(node.value) in OWN else set()
    for node in ast.walk(tree):
        owner, name = None, None
        if isinstance(node, ast.Attribute):
            owner, name = ast.unparse(node.value), node.attr
        elif isinstance(node, ast.Call) and node.args:
            function, strings = (
                ast.unparse(node.func),
                [getattr(a, "value", None) for a in node.args],
            )
            if function in ("getattr", "hasattr", "setattr", "delattr") and len(strings) > 1:
                owner, name = ast.unparse(node.args[0]), strings[1]
            elif function.startswith("vars(") or "__dict__." in function:
                owner, name = function, strings[0]
        elif isinstance(node, ast.Subscript):
            owner = ast.unparse(node.value)
            if owner.startswith("vars(") or owner.endswith("__dict__"):
                name = getattr(node.slice, "value", None)
        private = isinstance(name, str) and name.startswith("_") and not name.startswith("__")
        if private and owner not in OWN and name not in defined:
            yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "access",
    [
        "tensor._keras_history",
        "tensor._keras_history.operation",
        "self.model._tracker",
        "super()._tracker",
        "model._tracker = 1",
        "del model._tracker",
        "vars(model)['_tracker']",
        "vars(model).get('_tracker')",
        "vars(self.model).pop('_tracker', None)",
        "model.__dict__['_tracker']",
        "model.__dict__.pop('_tracker', None)",
        "getattr(model, '_tracker')",
        "getattr(model, '_tracker', None)",
        "hasattr(model, '_tracker')",
        "setattr(model, '_tracker', 1)",
        "delattr(model, '_tracker')",
    ],
)
def test_a_private_access_is_found(access):
    assert len(list(private_accesses(access))) == 1


@pytest.mark.parametrize(
    "access",
    [
        "self._tracker",
        "hasattr(self, '_tracker')",
        "row._replace(a=1)",
        "model.__dict__['tracker']",
        "type(model).__name__",
        "getattr(model, 'tracker')",
        "names['_tracker']",
        "class Own:\n    def __init__(self):\n        self._kept = 1\n    def __eq__(self, other):\n"
        "        return self._kept == other._kept",
        "class Own:\n    _kept: int = 1\nOwn()._kept",
        "class Own:\n    _kept = 1\nOwn()._kept",
        "class Own:\n    def _method(self):\n        pass\nOwn()._method()",
    ],
)
def test_what_is_a_files_own_is_no_private_access(access):
    assert not list(private_accesses(access))


# joblib has no public way to keep a worker that has grown. Whether these still do is what
# `test_a_worker_that_grows_as_programs_do_keeps_them` asks.
NEEDED = {
    "layerwise/comparison/workers.py": {
        "process_executor._MAX_MEMORY_LEAK_SIZE",
        "process_executor._MEMORY_LEAK_CHECK_DELAY",
    }
}


@pytest.mark.parametrize("path", OUTSIDE_BACKENDS, ids=name_of)
def test_private_attributes_stay_in_the_file_that_defines_them(path):
    found = [access.partition(": ")[2] for access in private_accesses(path.read_text())]
    assert set(found) == NEEDED.get(name_of(path), set())


@pytest.mark.slow
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


# A package imports those before it; `__init__` is what users import and may import all.
ORDER = (
    "version", "backends", "blocks", "steps", "optimizers", "training", "features", "schedules",
    "diagnostics", "comparison",
)  # fmt: skip
RANKED = [path for path in MODULES if path.parent.name != ROOT.name and "layerwise" in path.parts]
RANKED = [path for path in RANKED if path != ROOT / "layerwise" / "__init__.py"]


def rank(parts):
    return ORDER.index(parts[0].removesuffix(".py"))


@pytest.mark.parametrize("path", RANKED, ids=name_of)
def test_imports_run_one_way(path):
    own = rank(path.relative_to(ROOT / "layerwise").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [getattr(node, "module", None) or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            parts = module.split(".")
            if parts[0] == "layerwise":
                assert len(parts) > 1, f"{module}: name the package that it comes from"
                assert rank(parts[1:]) <= own, module
            assert parts[0] not in ("experiments", "tests", "examples")


def test_contributing_tells_the_same_order():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [name for name in ORDER if f"| `{name}` |" in text]
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows == named


BACKENDS = ("tensorflow", "jax", "torch")
ROOMS = ("step", "execution", "fit", "memory", "flops", "derivatives")


def offered(backend):
    """`{room: names}`: what a backend's `__init__` takes from each of its rooms, in the order of their definition."""
    folder, found = ROOT / "layerwise" / "backends" / backend, {}
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found[node.module.rpartition(".")[2]] = {alias.name for alias in node.names}
    ordered = {}
    for room, names in found.items():
        defined = []
        for node in ast.parse((folder / f"{room}.py").read_text()).body:
            targets = (
                [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            )
            name = getattr(node, "name", None) or (targets[0].id if targets else None)
            defined += [name] if name in names else []
        ordered[room] = defined
    return ordered


def test_backends_have_the_same_rooms_with_the_same_functions_in_the_same_order():
    first, *others = (offered(backend) for backend in BACKENDS)
    assert set(first) == set(ROOMS)
    assert all(names for names in first.values())
    for other in others:
        assert other == first


LONGEST_FILE, LONGEST_CLASS = 300, 200
# The face of the package: half of it is the docstrings of public names.
LONG_CLASSES = {"Schedule"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_classes_can_be_read_at_once(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name not in LONG_CLASSES:
            assert node.end_lineno - node.lineno < LONGEST_CLASS, node.name


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one process alone")
def test_the_tests_of_a_file_share_a_process(request):
    """What is computed once for a file would else be computed by each process. pytest-xdist keeps groups in node ids."""
    assert request.node.nodeid.endswith("@tests/test_structure.py")
