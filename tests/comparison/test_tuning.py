import numpy as np
import pandas as pd
import pytest

from layerwise.comparison.tuning import at_the_edge, target_of, tuned_learning_rate
from tests.comparison import problems


def tuning_runs(scores):
    """Return tuning rows from `{rate: [(status, accuracy, loss), ...]}`."""
    return pd.DataFrame(
        [
            problems.run_row(
                "s",
                1000 + place,
                "tune",
                rate,
                status=status,
                best_validation_accuracy=accuracy,
                best_validation_loss=loss,
            )
            for rate, runs in scores.items()
            for place, (status, accuracy, loss) in enumerate(runs)
        ]
    )


@pytest.mark.parametrize(
    "scores, expected",
    [
        (  # the best mean, not the best run
            {
                0.1: [("finished", 0.8, 1), ("finished", 0.8, 1)],
                0.3: [("finished", 0.95, 1), ("finished", 0.6, 1)],
            },
            0.1,
        ),
        (  # a run that diverged loses, however good it was before
            {
                0.1: [("finished", 0.3, 1), ("finished", 0.3, 1)],
                0.3: [("finished", 0.55, 1), ("diverged", 0.9, 1)],
            },
            0.1,
        ),
        ({0.1: [("finished", 0.8, 0.5)], 0.3: [("finished", 0.8, 0.4)]}, 0.3),
        ({0.3: [("finished", 0.8, 0.4)], 0.1: [("finished", 0.8, 0.4)]}, 0.1),
        ({0.1: [("failed", np.nan, np.nan)], 0.01: [("diverged", np.nan, np.nan)]}, 0.01),
    ],
)
def test_tuned_learning_rate(scores, expected):
    runs = tuning_runs(scores)
    measured = runs.assign(phase="measure", best_validation_accuracy=1.0, learning_rate=7.0)
    assert tuned_learning_rate(pd.concat([runs, measured])) == expected


def test_target_is_the_median_best_of_the_tuned_rate_less_a_point():
    good = [("finished", accuracy, 1) for accuracy in (0.9, 0.7, 0.95)]
    runs = tuning_runs({0.1: good, 0.3: [("finished", 0.5, 1)] * 3})
    assert target_of(runs) == pytest.approx(0.89)


def test_no_target_where_nothing_finished():
    assert target_of(tuning_runs({0.1: [("diverged", 0.9, 1)]})) is None


def test_edge_of_the_rates():
    rates = {0.1: 0.8, 0.3: 0.9, 1.0: 0.7}
    scores = {rate: [("finished", accuracy, 1)] for rate, accuracy in rates.items()}
    assert not at_the_edge(tuning_runs(scores))
    assert at_the_edge(tuning_runs({rate: scores[rate] for rate in (0.1, 0.3)}))
    assert not at_the_edge(tuning_runs({0.1: scores[0.1]}))
