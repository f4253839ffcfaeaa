"""The quantities by name. A new one is a file with a function, and a line here."""

from collections.abc import Callable

from layerwise.diagnostics.allocation import allocation
from layerwise.diagnostics.best_multiple import best_multiple
from layerwise.diagnostics.compounding import compounding
from layerwise.diagnostics.curvature import curvature
from layerwise.diagnostics.gauss_seidel import gauss_seidel
from layerwise.diagnostics.gradient_noise import gradient_noise
from layerwise.diagnostics.interaction import interaction
from layerwise.diagnostics.linearization import linearization
from layerwise.diagnostics.pairs import pairs
from layerwise.diagnostics.parts import parts
from layerwise.diagnostics.plane import plane
from layerwise.diagnostics.reversals import reversals
from layerwise.diagnostics.sharpness import sharpness
from layerwise.diagnostics.smoothness import smoothness
from layerwise.diagnostics.steepest import steepest

QUANTITIES: dict[str, Callable] = {
    quantity.__name__: quantity
    for quantity in (
        interaction,
        parts,
        pairs,
        best_multiple,
        gauss_seidel,
        allocation,
        linearization,
        steepest,
        compounding,
        reversals,
        curvature,
        sharpness,
        gradient_noise,
        smoothness,
        plane,
    )
}
