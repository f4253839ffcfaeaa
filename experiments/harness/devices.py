"""The device that a backend runs on: its name, its peak memory, and what must be set for it."""

import os
import platform
import re
from pathlib import Path

import keras
from joblib import cpu_count

from layerwise.backends import backend

# As many processes train side by side where nothing else is said: each of them imports and compiles for itself.
MOST_PROCESSES = 8


def device_name() -> str:
    """The device's own name, as in "NVIDIA H200", or the processor's."""
    name = keras.backend.backend()
    if name == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    elif name == "jax":
        import jax

        if jax.devices()[0].platform == "gpu":
            return jax.devices()[0].device_kind
    else:
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        if devices:
            return tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU")
    return processor_name()


def require(device: str) -> None:
    """Makes the backend ready for `device`, "cpu" or "gpu".

    Raises:
        ValueError: A GPU was asked for, and the backend sees none.
    """
    if device == "gpu" and backend.device() != "gpu":
        raise ValueError(
            f"--device gpu: {keras.backend.backend()} sees no GPU. Install its build for CUDA (jax[cuda13]; torch from "
            "download.pytorch.org/whl/cu130) on a machine with one, or leave --device out."
        )
    if device == "gpu" and keras.backend.backend() == "torch":
        import torch

        # TF32 products, as JAX and TensorFlow do by themselves
        torch.set_float32_matmul_precision("high")


def side_by_side() -> int:
    """How many processes train side by side where nothing is said: one for each core; one in all on a GPU."""
    if backend.device() != "cpu":
        return 1
    return min(MOST_PROCESSES, cpu_count())


def reset_device_peak() -> None:
    """Lets `device_peak` begin anew, where a backend can."""
    if backend.device() != "gpu":
        return
    if keras.backend.backend() == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")


def device_peak() -> int | None:
    """Most bytes that were allocated on a GPU at once, on JAX since the start of the process; None on a CPU."""
    if backend.device() != "gpu":
        return None
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def processor_name() -> str:
    """The processor's name and the number of its cores that this process may use."""
    try:
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1].strip()
    except (OSError, TypeError):
        name = platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
