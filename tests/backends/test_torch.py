"""What torch.compile is given: a step for each block, compiled once."""

import shutil

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import compiled, mlp, values, vectors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "torch" or shutil.which("g++") is None,
        reason="torch.compile needs torch and a C++ compiler",
    ),
]


# layerwise.backends.internals has a cached function that a traced step calls.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a:UserWarning")
def test_more_blocks_than_torch_compiles_versions_of_one_function(monkeypatch):
    import torch

    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)  # 8, but each takes seconds
    blocks = 3

    def fitted(**arguments):
        keras.utils.set_random_seed(0)
        model = compiled(mlp(depth=blocks), "sgd", **arguments)
        x, y = vectors(8 * blocks)
        schedule = layerwise.BlockCoordinate()
        for _ in range(2):
            model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[schedule])
        return values(model.weights)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = fitted(jit_compile=True)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] >= blocks
    assert not [name for name in counters["unimplemented"] if "recompile_limit" in name]
    for one, other in zip(found, fitted(jit_compile=False), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
