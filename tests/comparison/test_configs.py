import keras
import pytest

from layerwise.comparison.configs import as_text, config_of


def branched(width=4):
    inputs = keras.Input((3,))
    left = keras.layers.Dense(width)(inputs)
    right = keras.layers.Dense(width, name="mine")(inputs)
    return keras.Model(inputs, keras.layers.Add()([left, right]))


@pytest.mark.parametrize(
    "make",
    [
        branched,
        lambda: keras.Sequential([keras.Input((3,)), branched(), keras.layers.Dropout(0.1)]),
        lambda: keras.optimizers.Adam(0.1),
    ],
    ids=["functional", "nested", "optimizer"],
)
def test_made_up_names_do_not_matter(make):
    assert as_text(config_of(make())) == as_text(config_of(make()))


def test_everything_else_does():
    texts = [
        as_text(config_of(value))
        for value in (
            branched(),
            branched(5),
            keras.layers.Dense(3),
            keras.layers.Dense(3, name="mine"),
            keras.layers.Dense(3, dtype="bfloat16"),
            keras.optimizers.Adam(0.1),
            keras.optimizers.Adam(0.2),
            keras.optimizers.Adam,
        )
    ]
    assert len(set(texts)) == len(texts)


def test_a_function_is_known_by_what_it_does():
    def made(factor, inner=None, offset=0):
        source = f"def own(y, p, offset={offset}):\n    inner = lambda: {inner}\n"
        source += f"    return {factor} * (y - p) + offset"
        found = {"__name__": "own"}
        exec(source, found)
        return as_text(config_of(found["own"]))

    assert made(1) == made(1)
    assert len({made(1), made(2), made(1, inner=3), made(1, offset=1)}) == 4

    def closed(factor):
        return lambda y, p: factor * (y - p)

    assert as_text(config_of(closed(1))) == as_text(config_of(closed(1)))
    assert as_text(config_of(closed(1))) != as_text(config_of(closed(2)))


def test_a_model_without_a_config_is_known_by_class_and_shapes():
    class Own(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.dense = keras.layers.Dense(width)

        def call(self, x):
            return self.dense(x)

    texts = []
    for width in (2, 2, 3):
        model = Own(width)
        model(keras.ops.zeros((1, 4)))
        texts.append(as_text(config_of(model)))
    assert texts[0] == texts[1] != texts[2]
