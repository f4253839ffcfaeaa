"""Experiments: one module a question. They define, `layerwise` does the work."""

import logging
import os

# TensorFlow would fill the screen with its start-up and with advice on retracing; errors are shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
