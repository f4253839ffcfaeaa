"""Where the arrays of a program are in the state that `fit` holds on JAX."""


class Layout:
    """The arrays that the Updates of some `StepSpec`s of one model move, and those that they read.

    fit's state is four lists: trainable, non-trainable, optimizer and metrics variables. What is not in it (heads, step
    counts) is read from the variables and written to them.
    """

    def __init__(self, *specs):
        model, moves = specs[0].model, [move for spec in specs for move in spec.moves]
        self.weights = _each_once(spec.weights for spec in specs)
        at = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self.moving = [at[id(v)] for v in self.weights if id(v) in at]
        self.resting = sorted(set(at.values()) - set(self.moving))
        at = {id(v): i for i, v in enumerate(model.optimizer.variables)}
        self.slots = [at[id(slot)] for slot in _each_once(m.slots for m in moves)]
        slots = {at[id(slot)] for spec in specs for slot in spec.slots}
        self.scalars = sorted(set(at.values()) - slots)
        self.own = _each_once([*(spec.heads for spec in specs), *(move.state for move in moves)])
        groups = (model.trainable_variables, model.optimizer.variables)
        self.moving_variables = [
            [groups[0][i] for i in self.moving],
            [groups[1][i] for i in self.slots],
        ]
        self.scalar_variables = [groups[1][i] for i in self.scalars]
        self.other_variables = [
            [groups[0][i] for i in self.resting],
            model.non_trainable_variables,
            self.scalar_variables,
            model.metrics_variables,
            self.own,
        ]

    def written(self, move):
        """The variables that the optimizer's step of one of the Updates may write."""
        return _each_once([move.weights, move.slots, self.scalar_variables, move.state])

    def values(self, moving, others):
        """`{id: (variable, array)}` of the arrays that move and those that do not."""
        groups = zip(
            [*self.moving_variables, *self.other_variables], [*moving, *others], strict=True
        )
        return {
            id(v): (v, array)
            for variables, arrays in groups
            for v, array in zip(variables, arrays, strict=True)
        }

    def arrays(self, values):
        """What `values` was made of."""
        return tuple(
            [[values[id(v)][1] for v in variables] for variables in group]
            for group in (self.moving_variables, self.other_variables)
        )

    def split(self, state):
        """The arrays that move and those that do not, each as a list of lists."""
        trainable, non_trainable, optimizer, metrics = state
        moving = [[trainable[i] for i in self.moving], [optimizer[i] for i in self.slots]]
        others = [
            [trainable[i] for i in self.resting],
            non_trainable,
            [optimizer[i] for i in self.scalars],
            metrics,
            [v.value for v in self.own],
        ]
        return moving, others

    def join(self, state, moving, others):
        """Fit's state after a step."""
        trainable, optimizer = list(state[0]), list(state[2])
        non_trainable, scalars, metrics, own = others
        for indices, values, target in (
            (self.moving, moving[0], trainable),
            (self.slots, moving[1], optimizer),
            (self.scalars, scalars, optimizer),
        ):
            for i, value in zip(indices, values, strict=True):
                target[i] = value
        for variable, value in zip(self.own, own, strict=True):
            variable._value = value
        return trainable, non_trainable, optimizer, metrics


def _each_once(groups):
    return list({id(v): v for group in groups for v in group}.values())
