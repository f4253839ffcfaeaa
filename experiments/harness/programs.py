"""How many steps run in one program."""

import keras


def steps_together(steps: int) -> int:
    """So many for `compile(steps_per_execution=...)`, or 1 on torch, which runs step by step.

    Small steps take less time than calling a program for each.
    """
    return 1 if keras.backend.backend() == "torch" else steps
