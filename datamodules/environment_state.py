"""The state of environments as plain values: so that a killed run goes on in the middle of an episode.

gymnasium has no call for it. But classic control and toy text keep all that moves in plain attributes and a generator,
as do the usual wrappers; what lies in other environments (a physics engine, an emulator) cannot be read.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv

READABLE = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.", "gymnasium.envs.tabular.")
"""Modules whose environments keep all that moves in plain attributes."""
NOT_STATE = {"spec", "metadata", "render_mode", "action_space", "observation_space", "np_random_seed"}
_SKIP = object()


def read_state(environments: gymnasium.vector.VectorEnv) -> dict[str, Any] | None:
    """Everything that moves, as tensors and plain values; None where it cannot be read."""
    layers = list(_layers(environments))
    base = [layer for layer in layers if not isinstance(layer, (gymnasium.Wrapper, SyncVectorEnv))]
    if not base or not all(type(layer).__module__.startswith(READABLE) for layer in base):
        return None
    return {"layers": [_read(layer) for layer in layers]}


def write_state(environments: gymnasium.vector.VectorEnv, state: dict[str, Any]) -> None:
    """Put back what `read_state` gave, into environments that were made alike and reset once."""
    for layer, values in zip(_layers(environments), state["layers"], strict=True):
        for name, value in values.items():
            if name == "_np_random":
                layer.__dict__[name] = np.random.Generator(np.random.PCG64())
                layer.__dict__[name].bit_generator.state = _decoded(value)
            else:
                layer.__dict__[name] = _decoded(value)


def _layers(environments: gymnasium.vector.VectorEnv) -> Iterator[Any]:
    """The vector environment, then each environment with its wrappers, the outermost first."""
    yield environments
    for layer in environments.envs if isinstance(environments, SyncVectorEnv) else ():
        while isinstance(layer, gymnasium.Wrapper):
            yield layer
            layer = layer.env
        yield layer


def _read(layer: Any) -> dict[str, Any]:
    values = {}
    for name, value in vars(layer).items():
        if isinstance(value, np.random.Generator):
            values[name] = _encoded(value.bit_generator.state)
        elif name not in NOT_STATE and (encoded := _encoded(value)) is not _SKIP:
            values[name] = encoded
    return values


def _encoded(value: Any) -> Any:
    """Plain values and tensors, with a mark where numpy must come back; `_SKIP` for anything else."""
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())} if value.dtype.kind in "biuf" else _SKIP
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": torch.from_numpy(np.array(value))}
    if isinstance(value, (tuple, list)):
        parts = [_encoded(part) for part in value]
        return _SKIP if any(part is _SKIP for part in parts) else {type(value).__name__: parts}
    if isinstance(value, dict):
        named = {key: _encoded(part) for key, part in value.items()}
        plain = all(isinstance(key, str) for key in named) and not any(part is _SKIP for part in named.values())
        return {"dict": named} if plain else _SKIP
    if isinstance(value, int) and not isinstance(value, bool):
        return {"int": str(value)}  # a generator's state has 128 bits
    if isinstance(value, str):
        return str(value)  # numpy has its own
    return value if value is None or isinstance(value, (bool, float)) else _SKIP


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return content.numpy().copy()
    if kind == "scalar":
        return content.numpy()[()]
    if kind == "int":
        return int(content)
    if kind == "dict":
        return {key: _decoded(part) for key, part in content.items()}
    return (tuple if kind == "tuple" else list)(_decoded(part) for part in content)
