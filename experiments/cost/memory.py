"""memory: optimizer state and peak memory by state, each in a process of its own; activations saved on torch."""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import layerwise
from experiments.cost.devices import device_peak, reset_device_peak
from experiments.cost.settings import settings as settings_of
from experiments.cost.timing import Planned, Training

VARIANTS = ("simultaneous", "keep", "reset", "drop")


def measure(settings):
    """Rows of every network: bytes by state, and on torch the bytes saved for the backward pass by block."""
    rows = []
    for network in settings.memory:
        for variant in VARIANTS:
            rows += _in_a_process(network, variant)
    if keras.backend.backend() == "torch":
        for network in settings.networks:
            rows += saved_activations(network)
    return rows


def of_network(network, variant):
    """Rows of this process: bytes of optimizer slots held after the first step, and peaks of the steps after it.

    The block that moves is the largest. Before and in the first step all slots are there: Keras' optimizers make them at
    once; and compiling takes memory, too.
    """
    before = _resident("VmRSS")
    training = Training(network, steps=3)
    blocks = layerwise.partition(training.model, network.blocks)
    sizes = [4 * block.parameters for block in blocks]
    schedule = layerwise.Simultaneous()
    if variant != "simultaneous":
        schedule = Planned([int(np.argmax(sizes))], network.blocks, variant)
    held = _AfterFirstStep(schedule)
    training.epochs(schedule, callbacks=[held])
    found = [
        ("optimizer state", held.optimizer_state),
        ("peak resident memory", held.resident - before),
    ]
    if held.device is not None:
        found.append(("peak device memory", held.device))
    found += [
        ("largest block", max(sizes)),
        ("weights", sum(sizes)),
    ]
    return [
        {"network": network.name, "n_blocks": len(blocks), "variant": variant}
        | {"quantity": quantity, "value": value, "unit": "bytes"}
        for quantity, value in found
    ]


def saved_activations(network):
    """Rows of one network on torch: bytes that autograd keeps for the backward pass of each block's step."""
    import torch

    training = Training(network, steps=1)
    model, n = training.model, training.n_blocks
    weights = {v.value.untyped_storage().data_ptr() for v in model.variables}
    kept, rows = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, y = training.batch()
    for block in ("simultaneous", *range(n)):
        schedule = None if block == "simultaneous" else Planned([block], network.blocks)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            callbacks = [schedule] if schedule else []
            model.fit(x, y, batch_size=len(x), verbose=0, shuffle=False, callbacks=callbacks)
        rows.append((block, schedule.blocks[block].name if schedule else "", sum(kept.values())))
    return [
        {"network": network.name, "n_blocks": n, "block": block, "block_name": name}
        | {"quantity": "saved activations", "value": value, "unit": "bytes"}
        for block, name, value in rows
    ]


class _AfterFirstStep(keras.callbacks.Callback):
    """Bytes of optimizer state, and peaks of the steps after the first one. At the end of fit all state is back."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.optimizer_state = self.schedule.optimizer_state_bytes()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(
                0
            )  # what was freed goes back to the system: malloc_trim(3)
            reset_device_peak()
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins at VmRSS: proc(5)
        self.resident, self.device = _resident("VmHWM"), device_peak()


def _resident(name):
    """Bytes; not from `getrusage`, which counts what the parent process held when it started this one."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s*(\d+) kB", status)[1]) * 1024


def _in_a_process(network, variant):
    scale, device = os.environ["LAYERWISE_COST_SCALE"], os.environ["LAYERWISE_COST_DEVICE"]
    command = [
        sys.executable,
        "-m",
        "experiments.cost.memory",
        scale,
        device,
        network.name,
        variant,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    _scale, _device, _name, _variant = sys.argv[1:]
    _networks = {network.name: network for network in settings_of(_scale, _device).memory}
    print(json.dumps(of_network(_networks[_name], _variant)))
