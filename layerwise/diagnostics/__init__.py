"""What a training step does, measured exactly: each quantity is a function of a `Step` that returns a tidy frame."""

from layerwise.diagnostics.allocation import allocation
from layerwise.diagnostics.best_multiple import best_multiple
from layerwise.diagnostics.compounding import compounding
from layerwise.diagnostics.example import example
from layerwise.diagnostics.gauss_seidel import gauss_seidel
from layerwise.diagnostics.interaction import interaction
from layerwise.diagnostics.linearization import linearization
from layerwise.diagnostics.pairs import pairs
from layerwise.diagnostics.parts import parts
from layerwise.diagnostics.steepest import steepest
from layerwise.diagnostics.step import Passes, Step

__all__ = [
    "Passes",
    "Step",
    "allocation",
    "best_multiple",
    "compounding",
    "example",
    "gauss_seidel",
    "interaction",
    "linearization",
    "pairs",
    "parts",
    "steepest",
]
