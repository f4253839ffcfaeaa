"""The answer of `dependence`, from frames alone."""

import json
from pathlib import Path

from experiments.dependence import picture_answer, quadratics, slices

QUESTION = (
    "Weights depend on each other: is the gradient still the steepest direction, also on pictures?"
)
ASKED = (
    "> Each partial derivative holds the other weights constant. If two weights are dependent, increasing both might "
    "decrease the loss even more, and we miss it. Is the gradient still the steepest direction? I am surprised "
    "that it works "
    "on pictures, where pixels are extremely dependent. Is this what convolutions address: fewer, less dependent "
    "weights?"
)
LIMITS = (
    "**What this cannot show.** Small nets on small images, plain gradient descent, one batch size; learning "
    "rates a factor of "
    "three apart, tuned on one seed. Whitening needs the covariance of all pixels, which large images do not "
    "allow. How far "
    "parts go together is seen along the step that training takes, not in every direction."
)


def answer(folder: Path) -> str:
    """The answer in Markdown, of the parts that the folder holds.

    Args:
        folder: Where the frames are, and `command.json`, which says what measured them.

    Raises:
        FileNotFoundError: The folder holds none.
    """
    found = [part.answer(folder) for part in (quadratics, slices, picture_answer)]
    parts = [part for part in found if part is not None]
    if not parts:
        raise FileNotFoundError(
            f"no frames of dependence in {folder}/. Run it first: python -m experiments run dependence"
        )
    command = json.loads((folder / "command.json").read_text())
    return "\n\n".join(
        [
            f"# {QUESTION}",
            ASKED,
            "**In short**",
            "\n".join(f"- {sentence}" for short, _ in parts for sentence in short),
            *(full for _, full in parts),
            "Numbers in brackets are 95 % intervals; ∞: not reached.",
            f"**Measured by** `{command}`; drawn and answered again, without training, by `python -m experiments plot "
            "dependence`.",
            LIMITS,
        ]
    )
