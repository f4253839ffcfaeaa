"""forgetting: what does it cost that the optimizer forgets a block while it rests?

`BlockCoordinate(state="reset")` and `state="drop"` begin each visit of a block with a new optimizer, and `"drop"` saves the
memory of the old one: both train the same weights. `python -m experiments.forgetting` runs it, with the arguments of
`experiments run forgetting`.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import pandas as pd

import layerwise
from experiments import convergence
from experiments.harness import comparisons, verdict
from layerwise.comparison import Comparison, frames

VISITS = {"10 steps": 10, "1 epoch": "epoch"}
STATES = {"kept": "keep", "forgotten": "reset"}
SCALES = {
    "quick": {"models": ("mlp",), "visits": ("10 steps",), "optimizers": ("Adam",)},
    "full": {
        "models": ("mlp", "normalized mlp"),
        "visits": tuple(VISITS),
        "optimizers": ("SGD", "Adam"),
    },
}


def schedules(visits: Sequence[str]) -> dict[str, Callable[[], layerwise.Schedule]]:
    """`{name: () -> schedule}`: every length of a visit with the state kept and forgotten; the baseline first."""
    return {"simultaneous": layerwise.Simultaneous} | {
        f"{visit}, {name}": functools.partial(
            layerwise.BlockCoordinate, order="shuffled", every=VISITS[visit], state=state
        )
        for visit in visits
        for name, state in STATES.items()
    }


define = convergence.define_with(SCALES, schedules)


def findings(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    """What forgetting costs over keeping, then what both cost over moving all layers at once."""
    runs, found = comparison.runs, []
    visits = [visit for visit in VISITS if runs["schedule"].str.startswith(visit).any()]
    for visit in visits:
        own = runs[runs["schedule"].str.startswith(visit)]  # kept comes first: the baseline
        pair = verdict.frame(Comparison.of(own, frames.curve_frame([])))
        name = f"Visits of {visit}, the optimizer's state forgotten at each"
        found.append(verdict.sentence(pair, name, "the same with the state kept"))
    for state in STATES:
        own = rows[rows["schedule"].str.endswith(state)]
        found.append(verdict.sentence(own, f"Taking turns, the state {state}"))
    return found


EXPERIMENT = comparisons.experiment(
    "What does it cost that the optimizer forgets a block while it rests?",
    define,
    findings,
    "larger networks, where memory is short; small ones on small images were measured. Forgetting is compared with keeping "
    "for each length of a visit by itself, without a correction over the two, each at its own tuned rate: with another one "
    "a verdict on scores may turn.",
)

if __name__ == "__main__":
    from experiments.harness.command import main

    main(["run", "forgetting", *sys.argv[1:]])
