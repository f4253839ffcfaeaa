"""interplay: equal tuning everywhere, and verdicts that follow from rows."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

from experiments.interplay import experiment, figures, grid, measures, start, variance
from experiments.interplay.claims import CLAIMS, Claim, Measured, above, apart
from layerwise.comparison import frames, settings
from tests.comparison import problems


@pytest.mark.parametrize("optimizer", grid.OPTIMIZERS)
def test_every_regularization_has_as_many_settings(optimizer):
    counts = {
        name: len(settings.product({"learning_rate": grid.rates_of(name, optimizer, 12), **others}))
        for name, others in grid.REGULARIZATIONS.items()
    }
    assert counts == dict.fromkeys(grid.REGULARIZATIONS, 12)


def test_dropout_that_was_tuned_away_says_nothing_of_dropout():
    rows = [
        problems.run_row("simultaneous", 0, phase, regularizer=name, **{"model.strength": strength})
        for phase in ("tune", "measure")
        for name, strength in (("dropout", "0.0"), ("dropout, decay", "0.1"), ("L2", "0.0"))
    ]
    runs = frames.run_frame(rows)
    assert measures.undropped(runs).tolist() == [False, False, False, True, False, False]
    assert not measures.undropped(runs.drop(columns="model.strength")).any()


def of(runs, probes=(), starts=()):
    """The frames that claims are judged by, from their rows."""
    started = frames.run_frame(starts) if starts else pd.DataFrame()
    columns = ["run_id", "quantity", "measure", "value"]
    probed = pd.DataFrame(probes) if probes else pd.DataFrame(columns=columns)
    return Measured(frames.run_frame(runs), probed, started)


def rows_of(*triples):
    return pd.DataFrame(
        [("cell", *triple) for triple in triples], columns=["what", "value", "low", "high"]
    )


@pytest.mark.parametrize(
    "triples, verdict",
    [
        ([(2, 1, 3), (1, 0.5, 2)], "holds"),
        ([(2, 1, 3), (0, -1, 1)], "holds in 1 of 2, else within chance"),
        ([(2, 1, 3), (-2, -3, -1)], "mixed: for it 1, against it 1 of 2"),
        ([(0, -1, 1)], "cannot be told here"),
        ([(-2, -3, -1)], "does not hold: the opposite"),
        ([(-2, -3, -1), (0, -1, 1)], "does not hold: the opposite in 1 of 2, else within chance"),
        ([(0, np.nan, np.nan)], "cannot be told here"),
        ([], "was not measured here"),
    ],
)
def test_a_verdict_follows_from_the_intervals(triples, verdict):
    claim = Claim("More is more.", "how much", None, above)
    assert claim.verdict(rows_of(*triples)) == verdict


@pytest.fixture(scope="module")
def frames_of_a_course():
    """Runs in which batch normalization wants ten times the rate and closes the gap, and dropout hurts SGD alone."""
    rng = np.random.default_rng(0)
    rows, probes = [], []
    for schedule in ("simultaneous", "greedy"):
        for optimizer in ("SGD", "Adam"):
            for name in ("none", "L2", "decoupled decay", "dropout", "batch norm"):
                rate = 0.1 if name == "batch norm" else 0.01
                strengths = {"dropout": ("0.0", "0.3"), "L2": ("0.001",)}.get(name, (None,))
                tuned = list(itertools.product(("tune",), (0.01, 0.1), strengths))
                for phase, tried, strength in [*tuned, ("measure", rate, strengths[-1])]:
                    for seed in range(6):
                        hurt = strength == "0.3" and optimizer == "SGD"
                        row = problems.run_row(
                            schedule,
                            seed,
                            phase,
                            tried,
                            optimizer=optimizer,
                            regularizer=name,
                            best_validation_score=0.9 - 0.1 * (tried != rate),
                            best_validation_loss=0.1,
                            test_score=0.9 + 0.001 * rng.normal(),
                            score_gap=0.05 - 0.04 * (name == "batch norm") + 0.001 * rng.normal(),
                            train_loss=0.1 + 0.5 * hurt + 0.001 * rng.normal(),
                            backend="jax",
                        )
                        row["run_id"] += f"-{optimizer}-{name}-{strength}"
                        row["model.strength"] = strength
                        rows.append(row)
                        smooth = {"quantity": "smoothness", "measure": "effective_smoothness"}
                        smooth |= {"step": 0, "other": "1"}
                        value = 1.0 if name == "batch norm" else 10.0 + rng.normal()
                        probes.append({"run_id": row["run_id"], **smooth, "value": value})
    return of(rows, probes)


@pytest.mark.parametrize(
    "claim, verdict",
    [
        ("dropout and SGD", "holds"),
        ("batch norm and rate", "cannot be told here"),  # four cells bear no interval
        ("batch norm regularizes", "holds"),
        ("batch norm and smoothness", "holds"),
        ("L2 and decay", "cannot be told here"),
        ("dropout and decay", "was not measured here"),
    ],
)
def test_claims_are_decided_by_the_rows(claim, verdict, frames_of_a_course):
    rows = CLAIMS[claim].measure(frames_of_a_course)
    assert CLAIMS[claim].verdict(rows) == verdict


def test_the_best_rates_of_two_strengths_are_of_values_that_both_have():
    """A tenth of the rate is best under the larger strength; what a grid has grown by is not counted."""
    rows = []
    for optimizer in grid.OPTIMIZERS:
        for strength, best in (("0.0", 0.1), ("0.3", 0.01), ("0.9", 1.0)):
            for rate in (0.01, 0.1) if strength == "0.3" else (0.01, 0.1, 1.0):
                row = problems.run_row("s", 1000, "tune", rate, optimizer=optimizer)
                row |= {"regularizer": "dropout", "model.strength": strength}
                row["best_validation_score"] = 0.9 if rate in (best, 1.0) else 0.5
                row["run_id"] += optimizer + strength
                rows.append(row)
    found = measures.by_strength(frames.run_frame(rows), ["dropout"], "learning_rate")
    np.testing.assert_allclose(found[["value", "low", "high"]], -1.0)
    claim = CLAIMS["dropout and rate"]
    assert claim.verdict(claim.measure(of(rows))) == "holds"


def test_flatness_is_compared_where_losses_are_equal():
    rows, probes = [], []
    for name, factor in (("none", 1.0), ("batch norm", 0.1)):
        for seed in range(6):
            row = problems.run_row("s", seed, optimizer="SGD", regularizer=name)
            row["run_id"] += name
            rows.append(row)
            # Sharpness is a power of the loss, a tenth with batch normalization, which trains twice as far.
            for step, loss in enumerate((1.0, 0.1, 0.01 * factor)):
                own = {"run_id": row["run_id"], "step": step}
                probes += [
                    own
                    | {"quantity": "smoothness", "measure": "loss", "other": "0", "value": loss},
                    own
                    | {
                        "quantity": "sharpness",
                        "measure": "adaptive_sharpness",
                        "value": factor * loss**0.5,
                    },
                ]
    claim = CLAIMS["batch norm and flatness"]
    found = claim.measure(of(rows, probes))
    np.testing.assert_allclose(found[["value", "low", "high"]], -1.0)
    assert claim.verdict(found) == "holds"


def test_the_answer_and_the_figure_hold_every_claim_and_regularization(frames_of_a_course):
    text = experiment.answer(frames_of_a_course, "`a command`")
    assert all(claim.says in text for claim in CLAIMS.values())
    assert "| schedule with optimizer |" in text
    axes = figures.scores(frames_of_a_course.runs).axes
    assert [axis.get_title() for axis in axes[:2]] == ["simultaneous", "greedy"]
    axes = figures.claims(experiment.judged(frames_of_a_course)).axes
    assert [axis.get_title().replace("\n", " ") for axis in axes] == [
        claim.says for claim in CLAIMS.values()
    ]


def test_the_loss_by_tuning_apart_is_of_seeds_that_did_not_choose():
    """Scores are noise, the same whatever the rate: the best of many settings is no better than that of few."""
    rng = np.random.default_rng(0)
    rows = []
    for schedule in "abcdefgh":
        for name, strengths in (("none", ["none"]), ("L2", ["0.1", "0.2", "0.3"])):
            for rate in (0.01, 0.03, 0.1, 0.3):
                for strength in strengths:
                    for seed in range(5):
                        row = problems.run_row(schedule, seed, "tune", rate, regularizer=name)
                        row["model.strength"] = strength
                        row["best_validation_score"] = 0.9 + 0.01 * rng.normal()
                        row["run_id"] += f"{name}{strength}"
                        rows.append(row)
    claim = CLAIMS["together"]
    assert claim.verdict(claim.measure(of(rows))) == "cannot be told here"
    of_one_seed = of([row for row in rows if row["seed"] == 0])  # as at the quick scale
    assert claim.verdict(claim.measure(of_one_seed)) == "was not measured here"
    for row in rows:  # with the penalty a tenth of the rate is best, and by far
        best = 0.1 if row["regularizer"] == "none" else 0.01
        row["best_validation_score"] -= 0.2 * (row["learning_rate"] != best)
    assert claim.verdict(claim.measure(of(rows))) == "holds"
    assert list(claim.measure(of(rows))["what"]) == ["from no regularization to L2"]
    for row in rows:  # a cell counts where the rate that is kept was tried
        row["learning_rate"] *= 1 if row["regularizer"] == "none" else 1.5
    assert claim.verdict(claim.measure(of(rows))) == "was not measured here"


def test_a_rate_that_is_best_for_all_layers_at_once_is_kept_by_other_schedules():
    rows = []
    for optimizer in ("SGD", "Adam", "RMSprop"):
        for schedule, best in (("simultaneous", 0.1), ("greedy", 0.1), ("turns", 0.01)):
            for rate in (0.01, 0.1):
                for seed in range(3):
                    row = problems.run_row(schedule, seed, "tune", rate, optimizer=optimizer)
                    row["best_validation_score"] = 0.9 - 0.2 * (rate != best) - 0.01 * (rate == 0.1)
                    row["model.strength"] = "none"
                    rows.append(row)
    found = CLAIMS["together"].measure(of(rows)).set_index("what")["value"]
    assert found.to_dict() == pytest.approx(
        {
            "from all layers at once to greedy": 0,
            "from all layers at once to turns": -0.21,
        }
    )


def test_a_claim_of_a_difference_has_no_opposite():
    claim = Claim("They differ.", "by how much", None, apart)
    assert claim.verdict(rows_of((2, 1, 3), (-2, -3, -1))) == "holds"
    assert claim.verdict(rows_of((2, 1, 3), (0, -1, 1))) == "holds in 1 of 2, else within chance"


@pytest.mark.parametrize(
    "infinite, verdict", [((), "holds"), (("none", "dropout"), "holds"), (("none",), "cannot")]
)
def test_gradients_of_infinite_noise_count(infinite, verdict):
    """Of ten pairs two, which differ tenfold elsewhere: with both no difference, without dropout alone one."""
    rows, probes = [], []
    for name, noise in (("none", 1.0), ("dropout", 10.0)):
        for seed in range(10):
            row = problems.run_row("s", seed, optimizer="SGD", regularizer=name)
            row["run_id"] += name
            rows.append(row)
            value = np.inf if seed < 2 and name in infinite else noise
            about = {"quantity": "gradient_noise", "measure": "batch_noise", "value": value}
            probes.append({"run_id": row["run_id"], **about})
    claim = CLAIMS["dropout and noise"]
    found = claim.measure(of(rows, probes))
    assert found["value"].item() == 1.0
    assert claim.verdict(found).startswith(verdict)


def test_dropout_that_was_tuned_for_the_cost_alone_does_not_count():
    """For the score none at all was best: the runs that were tuned for the cost do not stand for it."""
    rows, probes = [], []
    for name, strength, purpose in (
        ("none", None, "score"),
        ("dropout", "0.0", "score"),
        ("dropout", "0.1", "cost"),
    ):
        for seed in range(4):
            row = problems.run_row("s", seed, regularizer=name, tuned_for=purpose)
            row |= {"model.strength": strength, "run_id": f"{name}{strength}{seed}"}
            rows.append(row)
            about = {"quantity": "gradient_noise", "measure": "batch_noise", "value": 1.0}
            probes.append({"run_id": row["run_id"], **about})
    assert CLAIMS["dropout and noise"].measure(of(rows, probes)).empty


def test_effects_are_those_of_the_cells_medians():
    """Each choice adds its own to the score; one seed of each cell is far off, which its median does not see."""
    rng, rows = np.random.default_rng(0), []
    added = {"simultaneous": 0.0, "greedy": 0.1, "SGD": 0.0, "Adam": 0.05, "none": 0.0, "L2": 0.0}
    for cell in itertools.product(("simultaneous", "greedy"), ("SGD", "Adam"), ("none", "L2")):
        for seed in range(5):
            names = dict(zip(("schedule", "optimizer", "regularizer"), cell, strict=True))
            score = (
                0.5 + sum(added[name] for name in cell) + 1e-4 * rng.normal() - 0.3 * (seed == 0)
            )
            rows.append(problems.run_row(seed=seed, test_score=score, **names))
    found = variance.effects(frames.run_frame(rows))
    assert found["share"].sum() == pytest.approx(1)
    # Of two levels and so many cells a sum of squares is the square of the difference, times two.
    assert found.loc[["schedule", "optimizer"], "share"].to_list() == pytest.approx(
        [0.8, 0.2], abs=0.01
    )
    assert (found.loc[["schedule", "optimizer"], "p"] < 0.05).all()
    (said,) = variance.what_matters(found)
    assert said.startswith("Schedule explains 80 %, optimizer 20 % of the variance of test scores")
    assert "of regularization" in said and said.endswith(" no effect beyond chance was seen.")
    of_one_factor = [
        row for row in rows if (row["schedule"], row["optimizer"]) == ("greedy", "SGD")
    ]
    assert variance.effects(frames.run_frame(of_one_factor)).empty


def starts(worst):
    """Runs of two scales of the initial weights: the larger one's score is lower by `worst[regularizer]`."""
    for phase, seeds in (("tune", range(1000, 1006)), ("measure", range(6))):
        for regularizer, factor in itertools.product(worst, (1.0, 10.0)):
            for rate in (0.1, 1.0) if phase == "tune" else (0.1,):
                for seed in seeds:
                    row = problems.run_row("simultaneous", seed, phase, rate, optimizer="SGD")
                    score = 0.9 - 0.01 * (rate == 1.0) - worst[regularizer] * (factor == 10)
                    row |= {"model": start.name_of(factor), "regularizer": regularizer}
                    row |= {"test_score": score, "best_validation_score": score}
                    row["run_id"] += f"{regularizer}{factor}"
                    yield row


@pytest.mark.parametrize(
    "normalized, verdict",
    [(0.1, "holds"), (0.3, "cannot be told here"), (0.5, "does not hold: the opposite")],
)
def test_sensitivity_is_what_a_scale_of_the_weights_costs(normalized, verdict):
    rows = list(starts({"none": 0.3, "batch norm": normalized}))
    found = start.sensitivity(frames.run_frame(rows))
    assert list(found["what"]) == ["SGD, rate tuned", "SGD, one rate"]
    np.testing.assert_allclose(found["value"], normalized - 0.3, atol=1e-12)
    claim = CLAIMS["batch norm and start"]
    assert claim.verdict(claim.measure(of(rows, starts=rows))) == verdict


def test_the_rate_of_the_usual_weights_is_kept_for_others():
    """With weights ten times as large the other rate would be better."""
    rows = list(starts({"none": 0.3}))
    for row in rows:
        if row["model"] == start.name_of(10.0) and row["learning_rate"] == 1.0:
            row["best_validation_score"] = 0.99
    runs = frames.run_frame(rows)
    kept = start.at_one_rate(runs[runs["phase"] == "tune"])
    assert set(kept["learning_rate"]) == {0.1} and set(kept["model"]) == set(runs["model"])


def test_initial_kernels_are_scaled_and_nothing_else_is():
    usual, large = (start.scaled((64,), 10, factor, "batch norm") for factor in (1.0, 10.0))
    for one, ten in zip(usual.weights, large.weights, strict=True):
        assert one.name == ten.name
        one, ten = (np.asarray(keras.ops.convert_to_numpy(weight)) for weight in (one, ten))
        if one.ndim == 2:  # draws of their own
            assert ten.std() / one.std() == pytest.approx(10, rel=0.1)
        else:
            np.testing.assert_array_equal(one, ten)
