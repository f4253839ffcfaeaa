"""The features below a frozen prefix, computed once: the cache, its store, and the `fit` that uses it."""

from layerwise.features.fit import fit_with_features

__all__ = ["fit_with_features"]
