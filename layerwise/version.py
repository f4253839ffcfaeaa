"""The version of layerwise, where packaging and result frames can read it without loading Keras."""

__version__ = "0.1.0"
