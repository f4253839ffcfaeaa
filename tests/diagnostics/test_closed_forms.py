"""Every quantity against algebra: quadratics of several blocks, and the net of two weights."""

import itertools

import keras
import numpy as np
import pytest
from scipy.optimize import minimize

import layerwise.diagnostics as diagnostics
from layerwise.diagnostics import Step

RATE = 0.25


class Quadratic:
    """A linear model of several branches with squared error, and the algebra of it.

    The loss is |A w - y|^2 / n with A the branches' inputs side by side: gradient 2 A' (A w - y) / n, Hessian
    2 A' A / n.
    """

    def __init__(self, widths=(3, 2, 4), n=16, seed=0, rate=RATE):
        rng = np.random.default_rng(seed)
        self.widths, self.ends = widths, np.cumsum(widths)[:-1]
        # Multiples of 1/8, which float32 holds.
        a = rng.integers(-8, 9, (n, sum(widths))) / 8
        self.w, self.y = rng.integers(-8, 9, sum(widths)) / 8, rng.integers(-8, 9, n) / 8
        inputs = [keras.Input((width,)) for width in widths]
        branches = [
            keras.layers.Dense(1, use_bias=False, name=f"branch_{k}")(i)
            for k, i in enumerate(inputs)
        ]
        self.model = keras.Model(inputs, keras.layers.Add()(branches))
        self.model.set_weights([p[:, None] for p in np.split(self.w, self.ends)])
        self.model.compile(keras.optimizers.SGD(rate), loss="mse")
        names = [[f"branch_{k}"] for k in range(len(widths))]
        self.x = np.split(a, self.ends, axis=1)
        self.step = Step(self.model, self.x, self.y[:, None], blocks=names)
        self.hessian = 2 * a.T @ a / n
        self.gradient = 2 * a.T @ (a @ self.w - self.y) / n
        self.u = -rate * self.gradient
        self.loss = float(np.mean((a @ self.w - self.y) ** 2))

    def pieces(self, vector):
        return np.split(vector, self.ends)

    def only(self, blocks):
        return np.concatenate(
            [p if k in blocks else 0 * p for k, p in enumerate(self.pieces(self.u))]
        )

    def change(self, v):
        return self.gradient @ v + v @ self.hessian @ v / 2

    def own(self, k):
        places = np.split(np.arange(len(self.w)), self.ends)[k]
        return self.hessian[np.ix_(places, places)]


@pytest.fixture(scope="module")
def quadratic():
    return Quadratic()


def close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-13)


def test_interaction_and_parts(quadratic):
    q, n = quadratic, len(quadratic.widths)
    alone = [q.change(q.only([k])) for k in range(n)]
    row = diagnostics.interaction(q.step).iloc[0]
    close(row["joint"], q.change(q.u))
    close(row["sum_of_parts"], sum(alone))
    close(row["interaction"], q.change(q.u) - sum(alone))
    close(row["additivity"], q.change(q.u) / sum(alone))
    assert 0 < row["noise_floor"] < 1e-13
    found = diagnostics.parts(q.step)
    predicted = [g @ u for g, u in zip(q.pieces(q.gradient), q.pieces(q.u), strict=True)]
    close(found["change"], alone)
    close(found["predicted"], predicted)
    close(found["miss"], np.array(alone) / predicted - 1)


def test_blocks_that_share_nothing_do_not_interact():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    outputs = [keras.layers.Dense(1, name=f"end_{k}")(i) for k, i in enumerate(inputs)]
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss=["mse", "mse"])
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(8, 2)) for _ in inputs]
    step = Step(model, x, [x[0][:, :1], x[1][:, :1]], blocks=[["end_0"], ["end_1"]])
    row = diagnostics.interaction(step).iloc[0]
    assert abs(row["interaction"]) <= row["noise_floor"] < 1e-14
    assert row["additivity"] == pytest.approx(1, rel=1e-10)


def test_pairs_and_best_multiple():
    q = Quadratic(
        rate=1.0
    )  # by losses less one another: at small rates rounding is a large part of them
    n = len(q.widths)
    found = diagnostics.pairs(q.step)
    matrix = [q.only([i]) @ q.hessian @ q.only([j]) for i, j in itertools.combinations(range(n), 2)]
    close(found["curvature"], matrix)
    close(found["interaction"], matrix)
    row = diagnostics.best_multiple(q.step).iloc[0]
    own = sum(q.only([k]) @ q.hessian @ q.only([k]) for k in range(n))
    close(row["multiple"], -(q.gradient @ q.u) / (q.u @ q.hessian @ q.u))
    close(row["slope"], q.gradient @ q.u)
    close(row["own_curvature"], own)
    close(row["cross_curvature"], q.u @ q.hessian @ q.u - own)


def test_gauss_seidel_allocation_and_linearization(quadratic):
    q = quadratic
    for k, row in diagnostics.gauss_seidel(q.step).iterrows():
        old = q.pieces(q.gradient)[k]
        new = q.pieces(q.gradient + q.hessian @ q.only(range(k)))[k]
        close(row["cosine"], old @ new / np.linalg.norm(old) / np.linalg.norm(new))
        close(row["relative_change"], np.linalg.norm(new - old) / np.linalg.norm(old))
        close(row["sign_changes"], np.mean(old * new < 0))
    found = diagnostics.allocation(q.step)
    path = q.gradient + q.hessian @ q.u / 2  # the mean gradient along the step
    close(
        found["allocation"],
        [g @ u for g, u in zip(q.pieces(path), q.pieces(q.u), strict=True)],
    )
    assert found.attrs["error"] < 1e-14
    found = diagnostics.linearization(q.step).set_index(["block", "multiple"])
    for name, blocks in (
        ("branch_1", [1]),
        ("first 2", [0, 1]),
        ("last 2", [1, 2]),
        ("all", [0, 1, 2]),
    ):
        for t in (0.5, 1.0, 2.0):
            v = t * q.only(blocks)
            close(found.loc[name, t]["actual"], q.change(v))
            close(found.loc[name, t]["predicted"], q.gradient @ v)
            close(found.loc[name, t]["miss"], q.change(v) / (q.gradient @ v) - 1)


def test_steepest_is_the_trust_region_step(quadratic):
    q, radius = quadratic, 0.3
    values, vectors = np.linalg.eigh(q.hessian)
    along = vectors.T @ q.gradient

    def step(shift):
        return -vectors @ (along / (values + shift))

    low, high = 1e-12, 1e3  # bisection on |(H + shift I)^-1 g| = radius
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(step(middle)) > radius else (low, middle)
    d = step(high)
    straight = -radius * q.gradient / np.linalg.norm(q.gradient)
    row = diagnostics.steepest(q.step, [radius], tolerance=1e-13, iterations=500).iloc[0]
    cosine = -q.gradient @ d / np.linalg.norm(q.gradient) / np.linalg.norm(d)
    assert row["cosine"] == pytest.approx(cosine, rel=1e-10)
    assert row["gain"] == pytest.approx(q.change(d) / q.change(straight), rel=1e-10)
    small = diagnostics.steepest(q.step, [1e-4]).iloc[0]
    assert small["cosine"] == pytest.approx(1, abs=1e-6)


def test_curvature_sharpness_and_smoothness(quadratic):
    q = quadratic
    found = diagnostics.curvature(q.step, samples=200, iterations=9, tolerance=1e-12)
    blocks = [q.own(k) for k in range(3)] + [q.hessian]
    close(found["largest_eigenvalue"], [np.linalg.eigvalsh(h)[-1] for h in blocks])
    off = np.abs(found["trace"] - [np.trace(h) for h in blocks])
    assert (off < 4 * found["trace_error"]).all() and (found["trace_error"] > 0).all()
    row = diagnostics.sharpness(q.step, [0.2]).iloc[0]
    close(row["sharpness"], q.change(0.2 * q.gradient / np.linalg.norm(q.gradient)))
    scaled = q.w**2 * q.gradient / np.linalg.norm(q.w * q.gradient)
    close(row["adaptive_sharpness"], q.change(0.2 * scaled))
    for _, row in diagnostics.smoothness(q.step).iterrows():
        v = row["multiple"] * q.u
        close(row["loss"], q.loss + q.change(v))
        close(row["gradient_distance"], np.linalg.norm(q.hessian @ v))
        close(row["effective_smoothness"], np.linalg.norm(q.hessian @ v) / np.linalg.norm(v))


def test_gradient_noise_of_linear_regression(quadratic):
    q = quadratic
    a = np.concatenate(q.x, axis=1)
    each = 2 * a * (a @ q.w - q.y)[:, None]  # one example's gradient a row
    found = diagnostics.gradient_noise(q.step, parts=len(a))
    for k, part in enumerate(np.split(each, q.ends, axis=1)):
        trace = part.var(axis=0, ddof=1).sum()
        signal = np.sum(part.mean(axis=0) ** 2) - trace / len(a)
        expected = trace / signal if signal > 0 else np.inf
        close(found["batch_noise"][k], expected)
    assert (found["mask_noise"] == 0).all()


def test_gradient_noise_from_parts_of_several_examples(quadratic):
    q, parts = quadratic, 4
    a = np.concatenate(q.x, axis=1)
    each = 2 * a * (a @ q.w - q.y)[:, None]
    means = each.reshape(parts, -1, each.shape[1]).mean(axis=1)  # one part's gradient a row
    found = diagnostics.gradient_noise(q.step, parts=parts)
    for k, part in enumerate(np.split(means, q.ends, axis=1)):
        # A part of b examples has a b-th of the variance of one.
        trace = len(a) / parts * part.var(axis=0, ddof=1).sum()
        signal = np.sum(part.mean(axis=0) ** 2) - trace / len(a)
        close(found["batch_noise"][k], trace / signal if signal > 0 else np.inf)


def test_mask_noise_of_one_weight_behind_dropout():
    # Each example's gradient is 2 m^2 with m = 0 or 2, so 0 or 8 with the same chance.
    dropped = [keras.layers.Dropout(0.5, seed=0), keras.layers.Dense(1, use_bias=False, name="w")]
    model = keras.Sequential([keras.Input((1,)), *dropped])
    model.set_weights([np.array([[1.0]])])
    model.compile("sgd", loss="mse")
    n, masks = 16, 200
    step = Step(model, np.ones((n, 1)), np.zeros((n, 1)))
    row = diagnostics.gradient_noise(step, parts=n, masks=masks).iloc[0]
    kept = [step.gradient_at([None], masks=k)[1][0][0] * n / 8 for k in range(masks)]
    close(kept, np.round(kept))  # how many examples were kept
    assert np.mean(kept) == pytest.approx(n / 2, abs=5 * np.sqrt(n / 4 / masks))
    single = np.array([gradient[0][0] for gradient in step.parts(n)])  # 0 or 8
    trace = single.var(ddof=1)
    signal = single.mean() ** 2 - trace / n
    close(row["batch_noise"], trace / signal)
    close(row["mask_noise"], np.var(kept, ddof=1) * (8 / n) ** 2 / signal)
    # The variance of a mean over n examples, 16 each: within a fifth, at 200 masks.
    assert row["mask_noise"] * signal == pytest.approx(16 / n, rel=0.3)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_allocations_add_up_within_the_tolerance_that_they_state(tolerance):
    from tests.helpers import compiled, mlp, vectors

    keras.utils.set_random_seed(0)
    model = compiled(mlp(), keras.optimizers.SGD(2.0))
    step = Step(model, *vectors(16))
    joint = step.change(range(len(step.blocks)))
    found = diagnostics.allocation(step, tolerance=tolerance, most=1024)
    off = abs(found["allocation"].sum() - joint)
    assert off <= tolerance * abs(joint)
    assert found.attrs["error"] == pytest.approx(off, abs=1e-14)
    coarse = diagnostics.allocation(step, tolerance=0.0, most=2)
    assert coarse.attrs["error"] > 1e-7 * abs(joint), "two intervals are not enough here"


def test_the_rotation_law_of_a_scale_invariant_net():
    # The loss depends on the direction of w alone: g is orthogonal to w and a plain step turns w by
    # the angle arctan(|u| / |w|), |u| = rate |g|; so trust_ratio * relative_update = rate^2.
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, use_bias=False, name="turns"),
            keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0),
        ]
    )
    model.compile(keras.optimizers.SGD(RATE), loss="mse")
    rng = np.random.default_rng(0)
    step = Step(model, rng.normal(size=(8, 3)), rng.normal(size=(8, 1)))
    (w,), (u,), (g,) = step.weights, step.displacement, step.gradient
    assert abs(g @ w) < 1e-10 * np.linalg.norm(g) * np.linalg.norm(w)
    row = diagnostics.compounding(step).iloc[0]
    turned = w + u
    angle = np.arccos(w @ turned / np.linalg.norm(w) / np.linalg.norm(turned))
    close(np.tan(angle), row["relative_update"], 1e-7)
    close(row["trust_ratio"] * row["relative_update"], RATE**2)


def test_pairs_by_forwards_and_by_products_part_with_the_third_power():
    from tests.helpers import compiled, mlp, vectors

    x, y = vectors(16)
    off = []
    for rate in (2e-3, 1e-3):
        keras.utils.set_random_seed(0)
        found = diagnostics.pairs(Step(compiled(mlp(), keras.optimizers.SGD(rate)), x, y))
        off.append(np.abs(found["interaction"] - found["curvature"]).max())
        assert off[-1] < 0.01 * np.abs(found["curvature"]).max()
    assert off[0] / off[1] == pytest.approx(8, rel=0.1)


def test_steepest_of_the_two_weights_is_the_best_on_the_circle():
    step, radius = diagnostics.example(), 0.5

    def loss(angle):
        return ((1 + radius * np.cos(angle[0])) * (2 + radius * np.sin(angle[0])) - 3) ** 2

    best = min((minimize(loss, [a], tol=1e-14) for a in np.linspace(0, 6, 13)), key=lambda r: r.fun)
    row = diagnostics.steepest(step, [radius], tolerance=1e-10, iterations=200).iloc[0]
    g = np.array([-4.0, -2.0])
    straight = -radius * g / np.linalg.norm(g)
    along = ((1 + straight[0]) * (2 + straight[1]) - 3) ** 2
    assert row["gain"] == pytest.approx((best.fun - 1) / (along - 1), rel=1e-6)


def test_every_quantity_of_the_two_weights_is_its_polynomial():
    # L(w, v) = (w v - 3)^2 at (1, 2), with gradient g, displacement u = -g / 8 and Hessian H.
    step, u, g = diagnostics.example(), np.array([0.5, 0.25]), np.array([-4.0, -2.0])
    h = np.array([[8.0, 2.0], [2.0, 2.0]])

    def loss(a, b):
        return ((1 + a) * (2 + b) - 3) ** 2

    def gradient(a, b):
        return 2 * ((1 + a) * (2 + b) - 3) * np.array([2 + b, 1 + a])

    found = {
        name: quantity(step) for name, quantity in diagnostics.QUANTITIES.items()
        if name not in ("reversals", "steepest", "gradient_noise")
    }  # fmt: skip
    joint, alone = loss(*u) - 1, [loss(u[0], 0) - 1, loss(0, u[1]) - 1]
    close(found["interaction"][["joint", "sum_of_parts"]].iloc[0], [joint, sum(alone)])
    close(found["parts"]["change"], alone)
    close(found["parts"]["predicted"], g * u)
    close(found["pairs"].iloc[0][["interaction", "curvature"]].astype(float),
          [joint - sum(alone), u[0] * h[0, 1] * u[1]])  # fmt: skip
    close(found["best_multiple"].iloc[0], [
        -(g @ u) / (u @ h @ u), g @ u, u**2 @ np.diag(h), 2 * u[0] * h[0, 1] * u[1],
    ])  # fmt: skip
    stale = gradient(u[0], 0)[1]
    close(found["gauss_seidel"]["relative_change"], [0, abs(stale - g[1]) / abs(g[1])])
    # The integral of a polynomial of degree three, by Gauss' rule on two points.
    places = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    parts = np.mean([gradient(*(s * u)) * u for s in places], axis=0)
    close(found["allocation"]["allocation"], parts)
    rows = found["linearization"].set_index(["block", "multiple"])["actual"]
    for t in (0.5, 1.0, 2.0):
        close(rows["all", t], loss(*(t * u)) - 1)
        close(rows["w", t], loss(t * u[0], 0) - 1)
    close(found["compounding"]["compounded"], [0.5, 0.125, 1.5 * 1.125 - 1])
    close(found["curvature"]["largest_eigenvalue"], [8, 2, 5 + np.sqrt(13)])
    r = found["sharpness"]["radius"][0]
    close(found["sharpness"]["sharpness"], loss(*(r * g / np.linalg.norm(g))) - 1)
    scaled = np.array([1.0, 4.0]) * g / np.linalg.norm([1.0 * -4.0, 2.0 * -2.0])
    close(found["sharpness"]["adaptive_sharpness"], loss(*(r * scaled)) - 1)
    for _, row in found["smoothness"].iterrows():
        away = row["multiple"] * u
        close(row["loss"], loss(*away))
        close(row["gradient_distance"], np.linalg.norm(gradient(*away) - g))
    for a in (0.0, 0.5, 1.0, 1.5):
        close(found["plane"][f"{a:g}, 0.5"], loss(a * u[0], 0.5 * u[1]))


def test_one_example_says_nothing_of_the_noise_of_the_gradient(quadratic):
    one = Step(quadratic.model, [x[:1] for x in quadratic.x], quadratic.y[:1, None], blocks="layer")
    found = diagnostics.gradient_noise(one)
    assert list(found["block"]) == one.names
    assert found[["batch_noise", "mask_noise"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="parts must be an int of at least 2"):
        diagnostics.gradient_noise(one, parts=1)


def test_a_hessian_that_is_infinite_has_no_eigenvalue():
    # The second derivative of |t|^1.5 at 0 is infinite; its first is not.
    bent = keras.layers.Lambda(lambda t: keras.ops.power(keras.ops.abs(t), 1.5))
    layers = [keras.layers.Dense(2, kernel_initializer="zeros"), bent, keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("sgd", "mse")
    step = Step(model, np.ones((8, 2)), np.ones((8, 1)))
    assert np.isfinite(step.loss)
    for iterations in (6, 20):  # by Lanczos for all; from the whole matrix
        with np.errstate(all="ignore"):  # as in a Probe
            found = diagnostics.curvature(step, iterations=iterations).set_index("block")
        assert np.isnan(found.loc["all", ["largest_eigenvalue", "residual"]].to_numpy()).all()
