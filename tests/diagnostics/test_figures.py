"""Figures are functions of a Probe's frame."""

import functools

import numpy as np
import pytest

import layerwise
from layerwise.diagnostics import example, plane
from tests.helpers import compiled, mlp, vectors

figures = layerwise.diagnostics.figures  # as users reach it


@pytest.fixture(scope="module")
def frame():
    x, y = vectors(16)
    probe = layerwise.Probe(
        ("pairs", "parts", "linearization", functools.partial(plane, blocks=(0, 2))),
        every=1,
        data=(x, y),
    )
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


def test_the_plane_has_the_step_at_one_and_one(frame):
    found = plane(example(), ["w", "v"]).iloc[0]
    assert found["1, 1"] == pytest.approx((1.5 * 2.25 - 3) ** 2, rel=1e-12)
    assert found["0.5, 1.5"] == pytest.approx((1.25 * 2.375 - 3) ** 2, rel=1e-12)
    assert found["fresh"] == pytest.approx(0, abs=1e-12)
    rows = frame.query("quantity == 'plane' and step == 2")
    whole = rows.query("measure == '1, 1'")["value"].item()
    fresh = rows.query("measure == 'fresh'")["value"].item()
    axis = figures.loss_plane(frame).axes[0]
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["both at once", "in turn, old gradient", "in turn, fresh gradient"]
    assert [tuple(line.get_xydata()[-1]) for line in axis.lines] == [(1, 1), (1, 1), (1, fresh)]
    assert np.isfinite(whole) and rows["passes"].iloc[0] == 4 * 4 + 1
    one = figures.loss_plane(frame, step=1, paths={"mine": [(0, 0), (0.5, 0.5)]})
    assert len(one.axes[0].lines) == 1


def test_what_is_not_in_the_frame_is_said(frame):
    with pytest.raises(ValueError, match="holds no 'interaction', only"):
        figures.over_training(frame, "interaction")
    with pytest.raises(ValueError, match="only at"):
        figures.linearization_fan(frame, step=99)
    with pytest.raises(ValueError, match="lacks the columns"):
        figures.interaction_matrix(frame.drop(columns="other"))
