"""The four questions of the project, as people ask them, and the experiments that answer each."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Question:
    """A question and the experiments that answer it.

    Attributes:
        title: In a few words.
        text: As it was asked.
        experiments: Their names, the main one first.
        figures: The names of the figures that an experiment's answer in short is shown with; else its first one.
    """

    title: str
    text: str
    experiments: tuple[str, ...]
    figures: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


QUESTIONS = (
    Question(
        "One layer at a time?",
        "The weight and its input can both flip sign because they don't communicate; the output is still 0.1 and they "
        "keep cycling. How do deep nets manage these co-adaptations so that they don't cancel out or become too drastic? "
        "One learning rate for the whole network makes no sense to me. Each small change compounds with depth. "
        "Wouldn't it help to change one layer at a time, or is that a massive time waste? And why is dropout, which breaks "
        "co-adaptation, regularization rather than better optimization?",
        ("coadaptation", "convergence", "orders", "forgetting", "depth", "cost"),
    ),
    Question(
        "Is the straight line wrong?",
        "A gradient step projects along a straight line, but the function is not straight. Weight 129 is to be decreased "
        "by 0.003412, but at that point the function might have reversed its direction, and the real update must have the "
        "other sign. With more layers it gets worse: updates of lower layers are best guesses. Is gradient descent broken, "
        "and would a correct one need only a single step?",
        ("linearity", "published"),
        {"linearity": ("line", "single")},
    ),
    Question(
        "What if weights depend on each other?",
        "Each partial derivative holds the other weights constant. If two weights are dependent, increasing both might "
        "decrease the loss even more, and we miss it. Is the gradient still the steepest direction? I am surprised that it "
        "works on pictures, where pixels are extremely dependent. Is this what convolutions address: fewer, less dependent "
        "weights?",
        ("dependence",),
        {"dependence": ("two-weights", "pictures")},
    ),
    Question(
        "How do regularization and optimizers interact?",
        "Regularization reshapes the landscape, optimizers decide how we move on it: they interact. Must techniques be "
        "tuned together?",
        ("interplay",),
    ),
)
