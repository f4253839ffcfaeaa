import keras
import pytest

from experiments.cost import executions
from experiments.harness import rows
from tests.experiments.cost import tiny


def test_several_steps_an_execution_over_stock_fit_with_as_many(monkeypatch, tmp_path):
    monkeypatch.setattr(executions, "TOGETHER", (1, 2))
    monkeypatch.setattr(executions, "EPOCHS", 2)
    heard = []
    monkeypatch.setattr(
        executions,
        "_seconds",
        lambda model, x, y, schedules: (
            heard.append(
                (model.steps_per_execution, len(x) // executions.BATCH, *map(type, schedules))
            )
            or 1.0 + len(schedules)
        ),
    )
    if keras.backend.backend() == "torch":
        assert executions.measure(tiny.SETTINGS) == []
        return
    found = executions.measure(tiny.SETTINGS)
    ratios = tiny.values(rows.frame(found), "batch over stock fit's", "every")
    assert ratios.tolist() == [2.0] * 6 and set(ratios.index) == {1, 2}
    assert {each[1] for each in heard} == {8}
    kinds = [type(make()) for make in executions.SCHEDULES.values()]
    assert heard[4:8] == [(1, 8), *((1, 8, kind) for kind in kinds)]
    names, lines = tiny.shown("executions", found, tmp_path)
    assert names == set() and len(lines) == 6


def test_an_epoch_is_timed_without_the_first():
    if keras.backend.backend() == "torch":
        pytest.skip("Keras has no steps_per_execution on torch")
    model = executions.compiled(executions.models.mlp((4,), 3, width=4))
    x, y = executions.np.zeros((128, 4), "float32"), executions.np.zeros(128, "int32")
    assert 0 < executions._seconds(model, x, y, []) < 10
