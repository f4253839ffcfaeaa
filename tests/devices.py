"""Trains one model under each family of schedules on N virtual CPU devices of one host: `python devices.py N OUT`.

The trained weights go to OUT, one file per schedule.
"""

import contextlib
import os
import sys

devices, out = int(sys.argv[1]), sys.argv[2]
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"

import keras
import numpy as np

import layerwise

SCHEDULES = {
    "simultaneous": layerwise.Simultaneous,
    "shuffled": lambda: layerwise.BlockCoordinate(
        order="shuffled", state="drop", every=3, always=["out"]
    ),
    "sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    "greedy": lambda: layerwise.GreedyLayerwise(finetune_epochs=1),
}


def spread():
    """What makes the scope in which a model is spread over the devices."""
    if devices == 1:
        return contextlib.nullcontext
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext
    import tensorflow as tf

    virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], virtual)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)]).scope


rng = np.random.default_rng(0)
x, y = rng.normal(size=(96, 8)).astype("float32"), rng.integers(3, size=96)
scope = spread()
for name, schedule in SCHEDULES.items():
    keras.utils.set_random_seed(1)
    with scope():
        hidden = [keras.layers.Dense(12, "tanh", name=f"hidden_{i}") for i in range(2)]
        last = keras.layers.Dense(3, "softmax", name="out")
        model = keras.Sequential([keras.Input((8,)), *hidden, last])
        rate = keras.optimizers.schedules.CosineDecay(0.01, 100)
        optimizer = keras.optimizers.Adam(rate)
        model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    schedule = schedule()
    model.fit(
        x,
        y,
        batch_size=32,
        epochs=8,
        shuffle=False,
        validation_data=(x, y),
        verbose=0,
        callbacks=[schedule],
    )
    np.savez(os.path.join(out, f"{name}_{devices}.npz"), *model.get_weights())
