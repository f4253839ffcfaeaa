"""linearity: a step follows a straight line, the loss does not: what does that cost?"""

from experiments.harness import parts

PARTS = ("line", "single", "flow", "edge")
OPENING = """# Is gradient descent broken, because a step is straight and the loss is not?

> A gradient step projects along a straight line, but the function is not straight. Weight 129 is to be decreased by
> 0.003412, but at that point the function might have reversed its direction, and the real update must have the other
> sign. With more layers it gets worse. Is gradient descent broken, and would a correct one need only a SINGLE step?"""

EXPERIMENT = parts.experiment(
    "linearity",
    "How much does it cost that a step is straight and the loss is not?",
    PARTS,
    OPENING,
)
