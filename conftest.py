import keras

# A backend's module needs its framework, which is installed only where that backend is used.
collect_ignore = [
    f"layerwise/backends/{name}"
    for name in ("tensorflow", "jax", "torch")
    if name != keras.backend.backend()
]
# Programs that tests start as processes of their own.
collect_ignore += ["tests/clusters.py", "tests/devices.py", "tests/joined.py"]
