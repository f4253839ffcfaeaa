"""One of two JAX processes that train one model together (`python joined.py PORT PROCESS OUT`), or both in one (PORT 0).

Each process holds half of every batch. The trained weights go to OUT, one file per schedule.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
port, process, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if port != "0":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"

import jax
import keras
import numpy as np

import layerwise

if port != "0":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))

BATCH = 16
SCHEDULES = {
    "simultaneous": layerwise.Simultaneous,
    "shuffled": lambda: layerwise.BlockCoordinate(order="shuffled", state="drop", always=["out"]),
    "sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    "greedy": lambda: layerwise.GreedyLayerwise(finetune_epochs=1),
}


def data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, BATCH, 8)).astype("float32"), rng.integers(3, size=(6, BATCH))
    if port != "0":
        half = slice(process * BATCH // 2, (process + 1) * BATCH // 2)
        x, y = x[:, half], y[:, half]
    return x.reshape(-1, 8), y.reshape(-1), x.shape[1]


for name, schedule in SCHEDULES.items():
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(12, "tanh", name=f"hidden_{i}") for i in range(2)]
    out_layer = keras.layers.Dense(3, "softmax", name="out")
    model = keras.Sequential([keras.Input((8,)), *hidden, out_layer])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    x, y, size = data()
    schedule = schedule()
    model.fit(x, y, batch_size=size, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
    weights = [np.asarray(v.value.addressable_data(0)) for v in model.trainable_variables]
    np.savez(os.path.join(out, f"{name}_{process}.npz"), *weights)
