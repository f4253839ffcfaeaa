"""How the experiment runs: every part on every backend in a process of its own, then figures from the tables."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.cost import tables

BACKENDS = ("tensorflow", "jax", "torch")
GPU_BACKENDS = ("jax", "torch")


def add_arguments(parser):
    """The arguments of `run` beside --scale and --results."""
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        help=f"if left out: {' '.join(BACKENDS)}; on a GPU {' '.join(GPU_BACKENDS)}",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to measure")
    parser.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        default="float32",
        help="Keras' dtype policy",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=tables.PARTS,
        default=tables.PARTS,
        metavar="PART",
        help="what to measure",
    )


def run(options):
    """Measures each part on each backend, adds what was found to the tables, and draws."""
    backends = options.backend or (GPU_BACKENDS if options.device == "gpu" else BACKENDS)
    _check_installed(backends, options.only)
    folder = _folder(options)
    print(f"cost, {options.scale}, on the {options.device}; tables and figures go to {folder}/")
    for backend in backends:
        for part in options.only:
            start = time.perf_counter()
            tables.add(folder, part, _measured(options, backend, part))
            print(f"{backend}: {part}, {time.perf_counter() - start:.0f} s", flush=True)
    plot(options)


def plot(options):
    """Draws every figure again, from the tables."""
    from experiments.cost import figures

    folder = _folder(options)
    if not any((folder / f"{part}.csv").exists() for part in tables.PARTS):
        raise FileNotFoundError(
            f"no tables of cost in {folder}/. Run it first: python -m experiments run cost"
        )
    for path in figures.draw(folder):
        print(f"drawn: {path}")


def table(options):
    """Prints the answer as Markdown, from the tables."""
    from experiments.cost import answer

    print(answer.markdown(_folder(options)))


def _folder(options):
    """`results/cost` for the full scale, which the README shows; what is quick does not write over it."""
    if options.results is None and getattr(options, "scale", "full") != "full":
        return Path("results") / options.scale / "cost"
    return (options.results or Path("results")) / "cost"


def _check_installed(backends, parts):
    missing = [name for name in backends if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"not installed: {', '.join(missing)}. Install the backends (pip install -e '.[jax,torch]'), or name those "
            "that are there: --backend tensorflow"
        )
    if "baselines" in parts and not all(map(importlib.util.find_spec, ("torch", "badam"))):
        raise ValueError(
            "the baselines include badam, which needs torch, and one of them is not installed: pip install -e "
            "'.[torch,baselines]', or measure other parts: --only "
            f"{' '.join(part for part in tables.PARTS if part != 'baselines')}"
        )


def _measured(options, backend, part):
    """The rows of one part, measured in a process where nothing else was done before."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if options.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "experiments.cost.measure"]
        command += [part, options.scale, options.device, options.dtype, str(file)]
        if subprocess.run(command, env=environment).returncode:
            raise RuntimeError(f"{part} could not be measured on {backend}: see above")
        return tables.read_rows(file)
