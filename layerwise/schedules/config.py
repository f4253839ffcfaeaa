"""A schedule as its config: the arguments of its constructor, which are kept as attributes of the same name."""

import inspect
from typing import Any

import keras
import numpy as np

from layerwise.blocks import Blocks


class Configurable:
    """What can be made again from the arguments of its constructor.

    `self.by` holds the argument `blocks`: `blocks` itself becomes the model's, once it is known.
    """

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments.

        Raises:
            TypeError: One is not kept as an attribute of its name, so that schedules that differ would look the same.
        """
        values = {}
        for name in _parameters(type(self)):
            attribute = "by" if name == "blocks" else name
            if not hasattr(self, attribute):
                raise TypeError(
                    f"{type(self).__name__} takes the argument {name!r} and has no attribute of that name, so its config "
                    f"cannot tell one {name} from another. Write self.{name} = {name} in __init__."
                )
            values[name] = plain(getattr(self, attribute))
        return values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as `from_config` takes them."""
        return {name: _serialized(value) for name, value in self.arguments().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The schedule that a config describes."""
        return cls(**{name: _deserialized(value) for name, value in config.items()})

    def __reduce__(self) -> tuple:
        """A copy or a pickle has the same arguments, and has trained nothing yet."""
        return _made, (type(self), self.arguments())

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in _parameters(type(self)).items()}
        given = {n: v for n, v in self.arguments().items() if not _equal(v, plain(defaults[n]))}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in given.items())})"


def _parameters(cls):
    """The parameters of a class's constructor; those behind `**arguments` are the next class's."""
    found = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
        kinds = {p.kind for p in parameters}
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found = {p.name: p for p in named} | found
        if inspect.Parameter.VAR_KEYWORD not in kinds or owner is Configurable:
            return found
    return found


def _made(cls, arguments):
    return cls(**arguments)


def plain(value):
    """Lists, copied, of tuples or the user's own lists; layer names for Blocks, Python's numbers for NumPy's."""
    if isinstance(value, Blocks):
        return [[layer.name for layer in block.layers] for block in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _equal(left, right):
    return type(left) is type(right) and left == right


def _serialized(value):
    if isinstance(value, dict):
        return {"by_block": [[key, _serialized(item)] for key, item in value.items()]}
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _deserialized(value):
    if isinstance(value, dict) and "by_block" in value:
        return {key: _deserialized(item) for key, item in value["by_block"]}
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value
