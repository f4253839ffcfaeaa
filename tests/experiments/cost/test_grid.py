from tests.experiments.cost import tiny


def test_figure_and_answer_tell_the_ways_apart(tmp_path):
    numbers = {"low": 0.9, "high": 1.1, "repetitions": 5}
    found = [
        {"network": "digits mlp", "variant": name, "quantity": quantity, "unit": unit}
        | numbers
        | {"value": value}
        for name, value in (("simultaneous", 1.5), ("stock fit", 9.0), ("hand-written", 1.0))
        for quantity, unit in (("update", "s"), ("over hand-written", "ratio"))
    ]
    names, lines = tiny.shown("grid", found, tmp_path)
    assert names == {"grid"}
    assert lines == {
        "simultaneous over hand-written, digits mlp": "1.5 (0.9 to 1.1)",
        "stock fit over hand-written, digits mlp": "9 (0.9 to 1.1)",
    }
