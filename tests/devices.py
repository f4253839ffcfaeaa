"""Trains a model under each family of schedules, alone and on two virtual CPU devices of one host: `python devices.py OUT`.

The trained weights go to OUT, one file for each schedule and number of devices.
"""

import contextlib
import os
import sys

if __name__ == "__main__":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"

import keras
import numpy as np

import layerwise

SCHEDULES = {
    "simultaneous": layerwise.Simultaneous,
    "shuffled": lambda: layerwise.BlockCoordinate(
        order="shuffled", state="drop", every=2, always=["out"]
    ),
    "sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    "greedy": lambda: layerwise.GreedyLayerwise(finetune_epochs=1),
}
BATCHES, BATCH = 3, 32


def data():
    """Features and labels, batch by batch: (batches, examples, ...)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCHES, BATCH, 8)).astype("float32")
    return x, rng.integers(3, size=(BATCHES, BATCH))


def trained(schedule, x, y, scope=contextlib.nullcontext, **arguments):
    """Train the model, made in a scope, in a fixed order of batches, and return it."""
    keras.utils.set_random_seed(1)
    with scope():
        hidden = [keras.layers.Dense(12, "tanh", name=f"hidden_{i}") for i in range(2)]
        last = keras.layers.Dense(3, "softmax", name="out")
        model = keras.Sequential([keras.Input((8,)), *hidden, last])
        rate = keras.optimizers.schedules.CosineDecay(0.01, 100)
        model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    batches = {"batch_size": x.shape[1], "epochs": 4, "shuffle": False, "verbose": 0}
    x, y = x.reshape(-1, 8), y.reshape(-1)
    model.fit(x, y, callbacks=[SCHEDULES[schedule]()], **batches, **arguments)
    return model


def two_devices():
    """Return what makes the scope in which a model is spread over two devices."""
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, 2 * [tf.config.LogicalDeviceConfiguration()]
        )
    x, y = data()
    validation = x.reshape(-1, 8), y.reshape(-1)
    for devices, spread in ((1, lambda: contextlib.nullcontext), (2, two_devices)):
        scope = spread()
        for name in SCHEDULES:
            model = trained(name, x, y, scope, validation_data=validation)
            np.savez(os.path.join(sys.argv[1], f"{name}_{devices}.npz"), *model.get_weights())
