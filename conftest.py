from pathlib import Path

BACKENDS = Path(__file__).parent / "layerwise" / "backends"
# Programs that tests start as processes of their own.
collect_ignore = ["tests/clusters.py", "tests/devices.py", "tests/joined.py"]


def pytest_ignore_collect(collection_path):
    """A backend's module needs its framework, which is installed only where that backend is used."""
    if collection_path.parent == BACKENDS and collection_path.name in (
        "tensorflow",
        "jax",
        "torch",
    ):
        import keras  # not in the process that gives tests to others (pytest -n) and collects none

        return True if collection_path.name != keras.backend.backend() else None
    return None
