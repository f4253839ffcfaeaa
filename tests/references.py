"""Slow, obvious second implementations in NumPy and float64, to check the package against.

A network is a list of layers ``{"kernel": (inputs, outputs), "bias": (outputs,)}`` with tanh
between them; each layer is a block. Formulas are those of Keras 3.15 (``keras/src/optimizers``),
written once more by hand.
"""

import copy

import numpy as np


def forward(layers, x):
    """Return the input of every layer, and the output of the last, which has no activation."""
    inputs = []
    value = x
    for number, layer in enumerate(layers):
        inputs.append(value)
        value = value @ layer["kernel"] + layer["bias"]
        if number < len(layers) - 1:
            value = np.tanh(value)
    return inputs, value


def mean_squared_error(output, target):
    """Return the loss, mean over outputs and batch, and its gradient by the output."""
    difference = output - target
    return np.mean(difference**2), 2 * difference / difference.size


def softmax_cross_entropy(output, labels):
    """Return the loss of logits against integer labels, mean over the batch, and its gradient."""
    shifted = output - output.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    gradient = probabilities.copy()
    gradient[rows, labels] -= 1
    return -np.mean(np.log(probabilities[rows, labels])), gradient / len(labels)


def gradients(layers, x, y, loss):
    """Return one ``{"kernel", "bias"}`` of gradients a layer, by the chain rule from the output."""
    inputs, output = forward(layers, x)
    _, upstream = loss(output, y)
    found = [None] * len(layers)
    for number in reversed(range(len(layers))):
        found[number] = {"kernel": inputs[number].T @ upstream, "bias": upstream.sum(axis=0)}
        if number > 0:
            upstream = (upstream @ layers[number]["kernel"].T) * (1 - inputs[number] ** 2)
    return found


class SGD:
    """Stochastic gradient descent with Keras' momentum: m = momentum m - rate g, w = w + m."""

    def __init__(self, learning_rate, momentum=0.0):
        self.learning_rate, self.momentum = learning_rate, momentum

    def new_slots(self, variable):
        return {"momentum": np.zeros_like(variable)}

    def step(self, variable, gradient, slots, own_step, rate):
        slots["momentum"] = self.momentum * slots["momentum"] - rate * gradient
        return variable + slots["momentum"]


class Adam:
    """Adam with decoupled weight decay; the bias correction counts the block's own steps."""

    def __init__(
        self,
        learning_rate,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        weight_decay=0.0,
        global_clipnorm=None,
    ):
        self.learning_rate = learning_rate
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.weight_decay, self.global_clipnorm = weight_decay, global_clipnorm

    def new_slots(self, variable):
        return {"mean": np.zeros_like(variable), "square": np.zeros_like(variable)}

    def step(self, variable, gradient, slots, own_step, rate):
        variable = variable - variable * self.weight_decay * rate
        slots["mean"] = self.beta_1 * slots["mean"] + (1 - self.beta_1) * gradient
        slots["square"] = self.beta_2 * slots["square"] + (1 - self.beta_2) * gradient**2
        correction = np.sqrt(1 - self.beta_2**own_step) / (1 - self.beta_1**own_step)
        return variable - rate * correction * slots["mean"] / (
            np.sqrt(slots["square"]) + self.epsilon
        )


def train(layers, steps, optimizer, loss, restart_at_visit=False, always=(), updates_a_batch=1):
    """Train a copy of the layers and return the copies before the first and after every step.

    Args:
        layers: the network at the start.
        steps: a list of (x, y, moving blocks, whether a visit begins); a batch that occurs twice is
            a sweep on it.
        optimizer: SGD or Adam; its learning rate is a number, or a function of the number of batches
            already trained on.
        loss: (output, target) -> (value, gradient).
        restart_at_visit: forget slots and step count of the block whose visit begins.
        always: blocks that move at every step; having no visits, they never restart.
        updates_a_batch: how many steps in a row are on the same batch, and take the same learning rate.
    """
    layers = copy.deepcopy(layers)
    slots = [
        {name: optimizer.new_slots(value) for name, value in layer.items()} for layer in layers
    ]
    counts = [0] * len(layers)
    history = [copy.deepcopy(layers)]
    for taken, (x, y, moving, visit_begins) in enumerate(steps):
        rate = optimizer.learning_rate
        rate = rate(taken // updates_a_batch) if callable(rate) else rate
        found = gradients(layers, x, y, loss)
        limit = getattr(optimizer, "global_clipnorm", None)
        if limit is not None:
            norm = np.sqrt(sum((g**2).sum() for block in moving for g in found[block].values()))
            scale = min(1.0, limit / norm)
        else:
            scale = 1.0
        for block in moving:
            if restart_at_visit and visit_begins and block not in always:
                counts[block] = 0
                slots[block] = {n: optimizer.new_slots(v) for n, v in layers[block].items()}
            counts[block] += 1
            for name, value in layers[block].items():
                layers[block][name] = optimizer.step(
                    value, scale * found[block][name], slots[block][name], counts[block], rate
                )
        history.append(copy.deepcopy(layers))
    return history


def two_weights(w, v, learning_rate, target, moves):
    """Return (w, v) of the net w * v with squared error after each move: "w", "v" or "both"."""
    trajectory = [(w, v)]
    for move in moves:
        error = w * v - target
        step_w, step_v = learning_rate * 2 * error * v, learning_rate * 2 * error * w
        w, v = w - step_w * (move in ("w", "both")), v - step_v * (move in ("v", "both"))
        trajectory.append((w, v))
    return trajectory


def moving_average(start, batch_values, momentum):
    """Return the exponential moving average that batch normalization keeps, after all batches."""
    value = start
    for batch_value in batch_values:
        value = momentum * value + (1 - momentum) * batch_value
    return value
