"""What a backend is told of a step: all that it reads, computes and writes, and nothing of who asked for it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, eq=False)
class Move:
    """What one Update changes.

    Attributes:
        weights: The variables that move: those of blocks in the model's order, then those of heads.
        slots: The optimizer's slots of the blocks that move.
        state: State beside the optimizer that the step reads and writes: step counts, the state of heads' optimizers.
        apply: `apply(gradients, unscaled=False)` moves `weights`, by the model's optimizer.
    """

    weights: tuple
    slots: tuple
    state: tuple
    apply: Callable[..., None]

    def warn_of_no_gradient(self) -> None:
        """Warns that the loss does not depend on what moves. On JAX, where such gradients are zeros, nobody can tell."""
        warnings.warn(
            f"The loss does not depend on {[v.path for v in self.weights[:4]]}: a step of theirs moves nothing. Leave the "
            "block out, or put it together with one that the loss depends on (blocks=...).",
            stacklevel=2,
        )


@dataclass(frozen=True, eq=False)
class StepSpec:
    """The step of one Update, or of several that share a program.

    Attributes:
        model: The compiled model: its metrics, optimizer, and how it is to be run.
        forward: `(x, y, sample_weight, training) -> (predictions, loss)`; None: the step is the model's own train step.
        begin: `begin(resets, rates)`, while a step is traced: gives blocks new state and learning-rate factors (see
            `Turns`), where the caller does not do it between steps.
        moves: What each Update changes. Where there are several, the caller says which one it is each time.
        shows: Whether the step updates metrics and returns logs: the first one of a batch does.
        heads: All variables of the auxiliary heads that the forward pass runs through.
        slots: All slots of the optimizer, those of blocks that rest included.
        shape: `shape(variable)`, also of a slot that has no memory now.
        traced: Called whenever the step is traced.
        shared: A dict for what the programs of one compiled model have in common.
        whole: Whether the forward pass is the whole model's own: it is the same one in all such steps.
    """

    model: Any
    forward: Callable | None
    begin: Callable[[Any, Any], None]
    moves: tuple[Move, ...]
    shows: bool
    heads: tuple
    slots: tuple
    shape: Callable[[Any], tuple]
    traced: Callable[[], None]
    shared: dict
    whole: bool

    @property
    def weights(self) -> list:
        """The variables that any of the Updates moves, each once."""
        moving = {id(v) for move in self.moves for v in move.weights}
        weights = [v for v in self.model.trainable_variables if id(v) in moving]
        return weights + [v for v in self.heads if id(v) in moving]


@dataclass(frozen=True, eq=False)
class ExecutionSpec:
    """Several batches in one program.

    Attributes:
        model: The compiled model.
        programs: The programs of the steps that it holds, each as the backend's `program` made it.
        traced: Called whenever the execution is traced.
    """

    model: Any
    programs: tuple
    traced: Callable[[], None]


class Turns(NamedTuple):
    """What is done with each batch of an execution, as arrays that are its inputs: nothing compiles anew for others.

    Attributes:
        batches: How many of the n batches that there is room for are carried out.
        count: How many Updates each batch brings about: `(n,)`.
        step: Which of the execution's programs each of them is: `(n, most Updates of a batch)`.
        index: Which of the Updates that share this program: of the same shape.
        resets: Whether a block's optimizer state is made new before: `(n, most Updates, blocks)`. None: it never is.
        rates: The factors of the blocks' learning rates: of the same shape. None: there are none.
        rows: The rows that each batch has in arrays that lie on the device: `(n, batch)`. None: `fit` brings the batches.
    """

    batches: Any
    count: Any
    step: Any
    index: Any
    resets: Any
    rates: Any
    rows: Any = None
