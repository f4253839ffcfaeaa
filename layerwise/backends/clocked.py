"""The user's optimizer while a step is traced: its update rule runs group by group, each with its own step count."""

import functools

import keras


def clocked_class(cls):
    """`cls` with an update rule that runs once per group of variables, each group with its own step count.

    What an optimizer reads as its step count and as its learning rate are the group's while the group's turn lasts.
    """

    def iterations(self):
        return self._layerwise_count if self._layerwise_count is not None else self._iterations

    def learning_rate(self):
        rate = cls._get_current_learning_rate(self)
        factor = self._layerwise_factor
        return rate if factor is None else keras.ops.multiply(rate, factor)

    def update_step(self, gradients, variables, learning_rate):
        for group, members in self._layerwise_groups(variables):
            group.update(
                self, cls._backend_update_step, [gradients[i] for i in members],
                [variables[i] for i in members], learning_rate,
            )  # fmt: skip

    def weight_decay(self, variables):
        for group, members in self._layerwise_groups(variables):
            self.__dict__["_layerwise_factor"] = group.factor
            try:
                cls._apply_weight_decay(self, [variables[i] for i in members])
            finally:
                self.__dict__.pop("_layerwise_factor", None)

    def apply(self, grads, trainable_variables=None):
        if (
            not self._layerwise_counts_batch
        ):  # the batch is counted already, and apply counts it again
            self._iterations.assign(keras.ops.maximum(self._iterations - 1, 0))
        cls.apply(self, grads, trainable_variables)

    return type(cls)(
        cls.__name__,
        (cls,),
        {
            "_layerwise_count": None,
            "_layerwise_factor": None,
            "_layerwise_counts_batch": True,
            "iterations": property(iterations),
            "apply": apply,
            "_get_current_learning_rate": learning_rate,
            "_backend_update_step": update_step,
            "_apply_weight_decay": weight_decay,
            "_check_variables_are_known": lambda self, variables: (
                None
            ),  # heads are not the optimizer's own
        },
    )


class clocked:
    """While in this context, `optimizer` updates its variables group by group (see `clocked_class`).

    Its groups are told by `{id(variable): group}`. The context spans the tracing of a step, or an eager step; nobody else
    sees the optimizer meanwhile. The replicas of a `tf.distribute` strategy enter it one after another before the first
    leaves, so both its classes are given.
    """

    def __init__(self, optimizer, stock, clocked, group_of, counts_batch):
        self.optimizer, self.stock, self.clocked = optimizer, stock, clocked
        self.group_of, self.counts_batch = group_of, counts_batch

    def __enter__(self):
        self.optimizer.__class__ = self.clocked
        self.optimizer.__dict__["_layerwise_groups"] = functools.partial(_members, self.group_of)
        self.optimizer.__dict__["_layerwise_counts_batch"] = self.counts_batch

    def __exit__(self, *exception):
        self.optimizer.__class__ = self.stock
        self.optimizer.__dict__.pop("_layerwise_groups", None)
        self.optimizer.__dict__.pop("_layerwise_counts_batch", None)


def _members(group_of, variables):
    """The groups that `variables` fall into, each with the positions of its members."""
    found: dict[int, tuple] = {}
    for i, variable in enumerate(variables):
        group = group_of[id(variable)]
        found.setdefault(id(group), (group, []))[1].append(i)
    return list(found.values())


def update_with_count(
    optimizer, rule, gradients, variables, learning_rate, count, products, factor
):
    """Runs an update rule with `count` as the step count that it sees, and the learning rate times `factor`.

    `products`: Nadam's running product that the rule sees, and the optimizer's own; None for other optimizers.
    """
    optimizer.__dict__["_layerwise_count"] = count
    if products is not None:
        optimizer.__dict__["_u_product"] = products[0]
    if factor is not None:
        learning_rate = keras.ops.multiply(learning_rate, factor)
    try:
        rule(optimizer, gradients, variables, learning_rate)
    finally:
        # Replicas come here one after another: each leaves the optimizer as it was before the first.
        optimizer.__dict__.pop("_layerwise_count", None)
        if products is not None:
            optimizer.__dict__["_u_product"] = products[1]


def update_step(optimizer, gradients, variables, learning_rate):
    """Runs an optimizer's own update rule on its own variables and counts the step."""
    optimizer._backend_update_step(gradients, variables, learning_rate)
    optimizer.iterations.assign_add(1)


def check_apply(optimizer, before):
    """Raises ValueError where an optimizer has a version of its own of what stock `fit` calls before `apply` (the methods
    named in `before`): steps of layerwise call `apply` itself, so that it would have no effect.
    """
    for part in (optimizer, getattr(optimizer, "inner_optimizer", optimizer)):
        scales = isinstance(part, keras.optimizers.LossScaleOptimizer)
        stock = keras.optimizers.LossScaleOptimizer if scales else keras.optimizers.Optimizer
        for name in before:
            if getattr(type(part), name) is not getattr(stock, name):
                raise ValueError(
                    f"{type(part).__name__} has its own {name}, which a step of single blocks does not call: it calls "
                    "apply(gradients, variables), and that update_step for each variable. Override one of these instead."
                )
