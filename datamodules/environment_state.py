"""The state of environments as plain values: so that a killed run goes on in the middle of an episode.

gymnasium has no call for it. But classic control and toy text keep all that moves in plain attributes and a generator,
and so do most wrappers; what lies in other environments (a physics engine, an emulator) cannot be read.
"""

import copyreg
import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv

READABLE = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.", "gymnasium.envs.tabular.")
"""Modules whose environments keep all that moves in plain attributes; their others may be left out."""
NOT_STATE = {"spec", "metadata", "_metadata", "render_mode", "action_space", "observation_space", "np_random_seed",
             "_previous_data"}  # fmt: skip
STATIC = (gymnasium.Env, gymnasium.Space, EnvSpec, types.FunctionType, types.BuiltinFunctionType, types.MethodType,
          functools.partial, np.ufunc, type)  # fmt: skip
"""What is as it was when the environment is made again."""
_SKIP = object()


def read_state(environments: gymnasium.vector.VectorEnv) -> dict[str, Any] | None:
    """Everything that moves, as tensors and plain values; None where it cannot be read."""
    layers = list(_layers(environments))
    base = [layer for layer in layers if not isinstance(layer, (gymnasium.Wrapper, SyncVectorEnv))]
    if not base or not all(type(layer).__module__.startswith(READABLE) for layer in base):
        return None
    try:
        states = [_read(layer) for layer in layers]
    except RecursionError:  # a wrapper with an object that holds itself
        return None
    return None if None in states else {"layers": states}


def write_state(environments: gymnasium.vector.VectorEnv, state: dict[str, Any]) -> None:
    """Put back what `read_state` gave, into environments that were made alike and reset once."""
    for layer, values in zip(_layers(environments), state["layers"], strict=True):
        _write(vars(layer), values)


def _layers(environments: gymnasium.vector.VectorEnv) -> Iterator[Any]:
    """The vector environment, then each environment with its wrappers, the outermost first."""
    yield environments
    for layer in environments.envs if isinstance(environments, SyncVectorEnv) else ():
        while isinstance(layer, gymnasium.Wrapper):
            yield layer
            layer = layer.env
        yield layer


def _read(layer: Any) -> dict[str, Any] | None:
    """What moves in a layer; None where a wrapper has something that cannot be read, for it may move."""
    values = {}
    for name, value in vars(layer).items():
        if name in NOT_STATE or isinstance(value, STATIC):
            continue
        is_wrapper = isinstance(layer, gymnasium.Wrapper)
        if (encoded := _attribute(value) if is_wrapper else _encoded(value)) is not _SKIP:
            values[name] = encoded
        elif is_wrapper:
            return None
    return values


def _write(attributes: dict[str, Any], values: dict[str, Any]) -> None:
    """Into a layer or an object of it."""
    for name, value in values.items():
        if isinstance(value, dict) and "object" in value:
            _write(vars(attributes[name]), value["object"])
        else:
            attributes[name] = _decoded(value)


def _attribute(value: Any) -> Any:
    """As `_encoded`; also a plain object, such as running statistics, whose attributes are written into the new one."""
    encoded = _encoded(value)
    if encoded is not _SKIP:
        return encoded
    try:
        made_by, arguments, state, *content = value.__reduce_ex__(2)
        is_whole = isinstance(state, dict) and state == getattr(value, "__dict__", None) and not any(content)
    except (TypeError, ValueError):
        return _SKIP
    if not is_whole or made_by is not copyreg.__newobj__ or len(arguments) > 1:  # type: ignore[attr-defined]
        return _SKIP
    parts = {name: _attribute(part) for name, part in state.items() if not isinstance(part, STATIC)}
    return _SKIP if any(part is _SKIP for part in parts.values()) else {"object": parts}


def _encoded(value: Any) -> Any:
    """Plain values and tensors, with a mark where numpy must come back; `_SKIP` for anything else."""
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())} if value.dtype.kind in "biuf" else _SKIP
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": torch.from_numpy(np.array(value))}
    if isinstance(value, np.random.Generator):
        return {"generator": _encoded(value.bit_generator.state)}
    if type(value) in (tuple, list, deque):
        parts = [_encoded(part) for part in value]
        if any(part is _SKIP for part in parts):
            return _SKIP
        return {"deque": [value.maxlen, parts]} if isinstance(value, deque) else {type(value).__name__: parts}
    if type(value) is dict:
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
    if kind == "generator":
        state = _decoded(content)
        bits = getattr(np.random, state["bit_generator"])()
        bits.state = state
        return np.random.Generator(bits)
    if kind == "deque":
        return deque(map(_decoded, content[1]), maxlen=content[0])
    if kind == "dict":
        return {key: _decoded(part) for key, part in content.items()}
    return (tuple if kind == "tuple" else list)(_decoded(part) for part in content)
