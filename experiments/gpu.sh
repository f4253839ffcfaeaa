#!/usr/bin/env bash
# The conformance suite and the cost experiment on a GPU, with JAX and torch, in float32 and bfloat16.
#
#   experiments/gpu.sh            # quick scale; the tests take some seven minutes; results/quick/cost/
#   experiments/gpu.sh full       # everything, widths of 4096 and 8192; results/cost/
#
# Needs a machine with an NVIDIA GPU and, in the environment of PYTHON (default: python):
#   pip install -e '.[jax,torch,baselines,test]' 'jax[cuda13]'
#   pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130
set -euo pipefail

cd "$(dirname "$0")/.."
scale=${1:-quick}
python=${PYTHON:-python}
export TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg XLA_PYTHON_CLIENT_PREALLOCATE=false

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || {
    echo "experiments/gpu.sh: no NVIDIA GPU here (nvidia-smi does not answer). Nothing was measured." >&2
    exit 1
}
for backend in jax torch; do
    KERAS_BACKEND=$backend "$python" -c '
from experiments.harness import devices
devices.require("gpu")
print(devices.device_name())' || exit 1
done

export XLA_FLAGS="--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"  # bits are compared; compiling is most of it
for backend in jax torch; do
    KERAS_BACKEND=$backend "$python" -m pytest -n 8 --dist loadgroup tests --ignore=tests/comparison \
        --ignore=tests/experiments --ignore=tests/test_readme.py --ignore=tests/test_structure.py
done
unset XLA_FLAGS
for dtype in float32 mixed_bfloat16; do
    KERAS_BACKEND=jax "$python" -m experiments run cost --device gpu --scale "$scale" --dtype "$dtype"
done
