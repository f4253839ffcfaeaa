"""One of two JAX processes that train the model of `devices.py` together: `python joined.py PORT PROCESS OUT`.

Each holds half of every batch. The trained weights go to OUT, one file for each schedule.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
port, process, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"

import devices
import jax
import keras
import numpy as np

jax.config.update("jax_cpu_collectives_implementation", "gloo")
keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))

half = devices.BATCH // 2
x, y = (batches[:, process * half : (process + 1) * half] for batches in devices.data())
for name in devices.SCHEDULES:
    model = devices.trained(name, x, y)
    weights = [np.asarray(v.value.addressable_data(0)) for v in model.trainable_variables]
    np.savez(os.path.join(out, f"{name}_process_{process}.npz"), *weights)
