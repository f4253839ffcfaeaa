"""What every test starts from. Keras is imported where a test needs it, not in the process that gives tests to others."""

import gc
import os

import pytest

# Tests make the same small programs again and again: what counts is to compile them fast. The compiler that makes one loop
# of several operations takes most of what is left; so does handing out its work. Unless graphs are to be optimized as they
# are for users.
if "OPTIMIZED_GRAPHS" not in os.environ:
    XLA_FLAGS = (
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    )
    os.environ.setdefault("XLA_FLAGS", " ".join(XLA_FLAGS))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups, in the same hook
def pytest_collection_modifyitems(items):
    """Tests that look at the same cached trainings stay in one process, the others of a file together: --dist loadgroup."""
    for item in items:
        shares = "case" in getattr(item, "fixturenames", ())
        group = "conformance" if shares else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True, scope="module")
def cheap_garbage_collection():
    """Graphs are a great many objects, some of which TensorFlow never frees: they are looked at less often than Python
    would, and what is left after a module of tests is not looked at again.
    """
    gc.set_threshold(50_000, 20, 20)
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Nor is it when all is over: pytest would, five times."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def fresh_session():
    """Every module starts from the same seeds of all libraries, and nothing of a session before."""
    import keras

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def graphs(request):
    """Comparisons optimize TensorFlow's graphs, as their workers do; other tests do not."""
    from tests.helpers import optimize_graphs

    optimize_graphs(bool({"comparison", "experiments"} & set(request.path.parts)))


@pytest.fixture(autouse=True, scope="session")
def exact_products():
    """On a GPU products of float32 are not rounded to TensorFloat-32 first, as JAX's are, and the convolutions of torch."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() == "gpu":
            jax.config.update("jax_default_matmul_precision", "highest")
    if keras.backend.backend() == "torch":
        import torch

        torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def fresh_keras(fresh_session):
    """Every test starts from the same seed, the float32 policy and no layer names taken.

    Not by what a module starts with: it makes TensorFlow forget how it runs programs (0.1 s for each that is run again).
    """
    import keras
    from keras.src.utils import naming

    from layerwise.backends import backend

    backend.seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
    naming.reset_uids()
