"""Experiments: one module a question. They define, `layerwise` does the work.

A new one is a module that exposes an `EXPERIMENT`, and a line in `MODULES` of `harness/command.py`; what two of them
share lies in `harness/`.
"""

import logging
import os

# TensorFlow would fill the screen with its start-up and with advice on retracing; errors are shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
