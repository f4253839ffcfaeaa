"""Figures are functions of a Probe's frame."""

import pytest

import layerwise
from layerwise.diagnostics import example, figures
from tests.helpers import compiled, mlp, vectors


@pytest.fixture(scope="module")
def frame():
    x, y = vectors(16)
    probe = layerwise.Probe(("pairs", "parts", "linearization"), every=1, data=(x, y))
    compiled(mlp(3)).fit(x, y, batch_size=8, callbacks=[probe], verbose=0)
    return probe.frame


def test_over_training_has_a_line_for_each_block(frame):
    figure = figures.over_training(frame, "parts", ["change", "miss"])
    change, miss = figure.axes
    assert change.get_title() == "change" and miss.get_title() == "miss"
    drawn = {tuple(line.get_ydata()) for line in change.lines if len(line.get_ydata())}
    rows = frame.query("quantity == 'parts' and measure == 'change'")
    assert drawn == {tuple(part["value"]) for _, part in rows.groupby("block")}


def test_the_matrix_shows_each_pair_twice(frame):
    figure = figures.interaction_matrix(frame, step=1)
    shown = figure.axes[0].collections[0].get_array().compressed()
    rows = frame.query("quantity == 'pairs' and measure == 'interaction' and step == 1")
    assert sorted(shown) == sorted([*rows["value"], *rows["value"]])


def test_the_fan_shows_actual_and_predicted(frame):
    figure = figures.linearization_fan(frame)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(lines) == 2 * len(set(frame.query("quantity == 'linearization'")["block"]))


def test_the_plane_has_the_step_at_one_and_one():
    step = example()
    rows = figures.plane(step, ["w", "v"], reach=2.0, resolution=7)
    at = rows[(rows["first"] == 1) & (rows["second"] == 1)]["loss"].item()
    assert at == step.loss + step.change([0, 1])
    figure = figures.loss_plane(rows, step.names)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "both at once",
        "one after the other",
    ]


def test_what_is_not_in_the_frame_is_said(frame):
    with pytest.raises(ValueError, match="holds no 'interaction', only"):
        figures.over_training(frame, "interaction")
    with pytest.raises(ValueError, match="only at"):
        figures.linearization_fan(frame, step=99)
    with pytest.raises(ValueError, match="lacks the columns"):
        figures.interaction_matrix(frame.drop(columns="other"))
