"""What a training step does, measured exactly: each quantity is a function of a `Step` that returns a tidy frame."""

from layerwise.diagnostics import figures
from layerwise.diagnostics.allocation import allocation
from layerwise.diagnostics.best_multiple import best_multiple
from layerwise.diagnostics.compounding import compounding
from layerwise.diagnostics.curvature import curvature
from layerwise.diagnostics.example import example
from layerwise.diagnostics.frames import quantity
from layerwise.diagnostics.gauss_seidel import gauss_seidel
from layerwise.diagnostics.gradient_noise import gradient_noise
from layerwise.diagnostics.interaction import interaction
from layerwise.diagnostics.linearization import linearization
from layerwise.diagnostics.movers import Passes
from layerwise.diagnostics.pairs import pairs
from layerwise.diagnostics.parts import parts
from layerwise.diagnostics.plane import plane
from layerwise.diagnostics.probe import Probe
from layerwise.diagnostics.quantities import QUANTITIES
from layerwise.diagnostics.reversals import reversals
from layerwise.diagnostics.sharpness import sharpness
from layerwise.diagnostics.smoothness import smoothness
from layerwise.diagnostics.steepest import steepest
from layerwise.diagnostics.step import Step

__all__ = [
    "QUANTITIES",
    "Passes",
    "Probe",
    "Step",
    "allocation",
    "best_multiple",
    "compounding",
    "curvature",
    "example",
    "figures",
    "gauss_seidel",
    "gradient_noise",
    "interaction",
    "linearization",
    "pairs",
    "parts",
    "plane",
    "quantity",
    "reversals",
    "sharpness",
    "smoothness",
    "steepest",
]
