import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from layerwise.comparison import Comparison, figures, intervals
from layerwise.comparison.figures import convergence
from layerwise.comparison.figures.looks import looks
from layerwise.comparison.figures.scene import Scene
from tests.comparison import problems

FULL = [
    "simultaneous",
    *(
        f"{order}, {visit}"
        for order in ("cyclic", "reverse", "shuffled", "random")
        for visit in ("1 step", "10 steps", "1 epoch", "sweep")
    ),
    *("greedy", "greedy, fine-tuned"),
]


@pytest.fixture(autouse=True)
def never_train(monkeypatch):
    def fit(*arguments, **options):
        raise AssertionError("a figure must not train")

    monkeypatch.setattr(keras.Model, "fit", fit)


FEW = ("simultaneous", "cyclic, 1 step", "greedy")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return the paths of the figures of a few schedules."""
    return Comparison.of(*problems.made_up(FEW)).plot(tmp_path_factory.mktemp("few") / "new")


def test_every_figure_is_drawn_from_frames_with_misses_and_losses(few):
    check(few)


@pytest.mark.slow
def test_every_figure_is_drawn_for_many_schedules(tmp_path):
    check(Comparison.of(*problems.made_up(tuple(FULL))).plot(tmp_path))


def check(paths):
    assert [path.name for path in paths] == [
        f"{name}-digits-mlp-Adam.png" for name in figures.FIGURES
    ]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000


@pytest.mark.thorough
def test_the_same_frames_give_the_same_files_and_no_random_number_is_used(tmp_path, few):
    state = np.random.get_state()[1].tolist()
    again = Comparison.of(*problems.made_up(FEW)).plot(tmp_path)
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in again]
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.thorough
def test_one_seed_one_rate_and_no_target_still_draw(tmp_path):
    runs, curves = problems.made_up(seeds=1)
    runs = runs[(runs["phase"] == "measure") | (runs["learning_rate"] == 0.1)]
    clocks = [f"{clock}_to_target" for clock in ("epochs", "updates", "flops", "seconds")]
    runs = runs.assign(target=float("nan"), reached=False, **dict.fromkeys(clocks))
    paths = figures.draw(problems.frames.run_frame(runs), curves, "simultaneous", tmp_path)
    names = {path.name.removesuffix("-digits-mlp-Adam.png") for path in paths}
    assert names == set(figures.FIGURES) - {"learning-rate", "time-to-target", "survival"}


def test_each_schedule_looks_the_same_everywhere_and_unlike_all_others():
    found = looks(FULL, "simultaneous")
    assert len({(look.color, look.marker, str(look.dashes)) for look in found.values()}) == len(
        FULL
    )
    some = looks(["simultaneous", "greedy", "shuffled, 1 step"], "simultaneous")
    assert some["shuffled, 1 step"].color == found["shuffled, 1 step"].color


def test_bands_are_estimates_over_the_runs_that_got_so_far():
    runs, curves = problems.made_up(seeds=6)
    measured = runs[runs["phase"] == "measure"][["run_id", "schedule", "seed"]]
    curves = curves[curves["split"] == "validation"].merge(measured, on="run_id")
    bands = convergence.bands(curves, "loss").set_index(["schedule", "epoch"])
    for (schedule, epoch), band in bands.iterrows():
        own = curves[(curves["schedule"] == schedule) & (curves["epoch"] == epoch)]
        values = own["loss"].dropna()
        center, low, high = intervals.mean(values)
        assert band["n"] == len(values)
        assert band["center"] == pytest.approx(center)
        assert band["low"] == pytest.approx(low, nan_ok=True)
        assert band["high"] == pytest.approx(high, nan_ok=True)
    assert bands.loc[("cyclic, 1 step", 2), "n"] == 5  # one diverged there
    none = convergence.bands(curves.assign(loss=np.nan), "loss")
    assert none.empty and set(none) == {"schedule", "epoch", *bands}


def test_missed_targets_are_said_to_be_missed():
    runs, curves = problems.made_up()
    lost = runs["schedule"] == "greedy"
    clocks = [f"{clock}_to_target" for clock in ("epochs", "updates", "flops", "seconds")]
    runs.loc[lost, "reached"] = False
    runs.loc[lost, clocks] = None
    task = ("digits", "mlp", "none", "Adam")
    scene = Scene(task, runs, curves, "simultaneous", runs)
    texts = _texts(figures.cost.figure(scene))
    assert "0 of 4" in texts and sum("never reached" in text for text in texts) == 3
    assert "4 of 4" in "".join(_texts(figures.time_to_target.figure(scene)))


def test_gaps_are_drawn_on_a_straight_axis_and_scores_close_to_one_as_they_are():
    runs, curves = problems.made_up()
    runs["train_loss"] *= np.geomspace(1, 1000, len(runs))
    runs["generalization_gap"] = np.geomspace(1e-4, 1, len(runs))
    runs["train_score"] = np.linspace(0.9995, 1, len(runs))
    task = ("digits", "mlp", "none", "Adam")
    drawn = figures.generalization.figure(Scene(task, runs, curves, "simultaneous", runs))
    drawn.draw_without_rendering()
    axes = {axes.get_title(): axes for axes in drawn.axes}
    assert axes["Train loss"].get_xscale() == "log"
    assert axes["Test - train loss"].get_xscale() == "linear"
    ticks = axes["Train accuracy"].get_xticklabels()
    assert {float(tick.get_text()) > 99 for tick in ticks} == {True}


def _texts(figure: Figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_where_every_run_diverged_in_its_first_epoch_there_is_no_convergence_to_draw():
    runs, curves = problems.made_up(seeds=1)
    curves.loc[curves["epoch"] > 0, ["loss", "score"]] = float("nan")
    scene = Scene(("digits", "mlp", "none", "Adam"), runs, curves, "simultaneous", runs)
    assert figures.convergence.score(scene) is None and figures.convergence.loss(scene) is None
