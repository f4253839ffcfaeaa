"""coadaptation: layers move at the same time and do not communicate: do their moves cancel, or become too drastic?"""

from experiments.harness import parts

PARTS = ("story", "plane", "depth", "rates", "dropout")
OPENING = """# Do layers that move at once cancel each other, and would one at a time be better?

> The weight and its input can both flip sign because they don't communicate; the output is still 0.1 and they keep
> cycling. How do deep nets manage these co-adaptations so that they don't cancel out or become too drastic? One learning
> rate for the whole network makes no sense to me. Each small change compounds with depth. Wouldn't it help to change one
> layer at a time, or is that a massive time waste? And why is dropout, which breaks co-adaptation, regularization rather
> than better optimization?

The example: input 1, no activation, weight w = 0.1, the weight before it v = 1, target -0.1. Whether one layer at a time
pays when everything is tuned, on every clock, is answered by [convergence](../convergence/answer.md)."""

EXPERIMENT = parts.experiment(
    "coadaptation",
    "Do layers that move at once cancel each other, and would one at a time be better?",
    PARTS,
    OPENING,
)
