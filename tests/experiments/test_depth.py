"""depth: networks as deep, wide and large as it says, and an answer by depth."""

import pytest

import layerwise
from experiments import depth
from layerwise.comparison import Comparison, frames
from tests.comparison import problems


def test_full_has_every_depth_form_and_size():
    models = depth.define("full", (8, 8, 1), 10)["models"]
    assert len(models) == 5 * 3 * 2
    sizes = [models[f"{n} layers, plain, equal parameters"]().count_params() for n in (2, 8, 32)]
    assert max(sizes) < 1.05 * min(sizes)
    deep = models["8 layers, residual, equal width"]()
    assert len(layerwise.partition(deep)) == 9


def test_the_answer_tells_costs_by_depth(tmp_path):
    rows = [
        problems.run_row(
            schedule,
            seed,
            model=f"{layers} layers, plain, equal width",
            target=0.8,
            test_score=0.9,
            reached=True,
            flops=1000,
            flops_to_target=100 * (factor if schedule == "greedy" else 1),
            epochs=8,
            epochs_to_target=3,  # of 8 epochs three blocks have 3, 3 and 2
            n_blocks=layers + 1,
        )
        for layers, factor in ((2, 3), (8, 0.5))
        for schedule in ("simultaneous", "greedy")
        for seed in range(8)
    ]
    comparison = Comparison.of(frames.run_frame(rows), frames.curve_frame([]))
    page = depth.EXPERIMENT.plot.keywords["answer"](comparison, tmp_path)
    assert (
        "Greedy: beyond chance cheaper than moving all layers at once in 1 of 2 networks and"
        in page
    )
    assert "2 layers 3×; 8 layers 0.5×" in page  # noqa: RUF001
    assert "reached its own target in 8 of 8 at 2 layers, 8 of 8 at 8 layers" in page
    assert "8 of the 16 greedy runs that reached the target" in page
    drawn = depth.figure(depth.verdict.frame(comparison))
    assert [axis.get_title() for axis in drawn.axes] == ["plain, equal width"]


def test_unknown_depths_do_not_exist():
    with pytest.raises(ValueError, match="at this scale and for this data"):
        depth.EXPERIMENT.run(
            _options(models=["64 layers, plain, equal width"], data="digits", scale="full")
        )


def _options(**given):
    from experiments.harness import command

    words = ["run", "depth", "--scale", given["scale"], "--models", *given["models"]]
    options = command._parser().parse_args(words)
    options.name = "depth"
    return options
