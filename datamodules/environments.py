"""Making environments by their id: wrappers, time limits, Atari's customs, and what is refused."""

import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import (
    AtariPreprocessing,
    ClipReward,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    TimeLimit,
)

from datamodules.wrappers import LifeIsEpisode, PlainReset
from toolkit.allow_list import allow, allowed_packages, is_allowed
from toolkit.commands.messages import did_you_mean
from toolkit.errors import UserError, short_message

Wrapper = Callable[[gymnasium.Env], gymnasium.Env]
TIME_LIMIT = 1000
"""Steps of an episode where neither environment nor config sets a limit; a greedy policy may walk in circles."""
ATARI_TIME_LIMIT = 27_000
"""Likewise of Atari's agents, whose steps are four frames: half an hour of play (Mnih et al., 2015)."""


@dataclass(frozen=True)
class Environments:
    """How environments are made; training, evaluation and play make theirs alike.

    Args:
        env_id: Registered with gymnasium; ``module:Name-v0`` imports the module first.
        options: Arguments of the environment.
        wrappers: Put around it, in this order.
        max_episode_steps: After which an episode is cut, -1 for never; the environment's own if None, 1000 where it has
            none, but for its own vector form, which then has none either. Of Atari the agent's steps, each of four
            frames, and 27,000 if None.
        atari: Whether to treat it as the Atari agents do.
    """

    env_id: str
    options: dict[str, Any] = field(default_factory=dict)
    wrappers: Sequence[Wrapper] = ()
    max_episode_steps: int | None = None
    atari: bool = False

    def make(self, training: bool, render: bool = False) -> gymnasium.Env:
        """One environment.

        Args:
            training: With what only training sees: of Atari, an episode's end with each life, and rewards -1, 0, 1.
            render: Whether ``render()`` gives pictures.

        Raises:
            UserError: There is no such environment, a package is missing, or a wrapper does not suit.
        """
        options = dict(self.options)
        if self.atari:
            options |= {"frameskip": 1} if self.env_id.startswith("ALE/") else {}
        if render:
            options["render_mode"] = "rgb_array"
            # or SDL complains where there is no desktop
            os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
            self._check_renders()
        environment = self._made(options)
        if render and sys.platform == "linux" and not os.environ.get("DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo first draws; its default needs a desktop
        if self.atari:
            environment = self._as_atari(environment, training)
        for wrapper in self.wrappers:
            try:
                environment = wrapper(environment)
            except Exception as error:
                name = getattr(getattr(wrapper, "func", wrapper), "__name__", type(wrapper).__name__)
                raise UserError(
                    f"data.init_args.wrappers: {name} cannot be put around {self.env_id} ({error})."
                ) from error
        _check_layers(environment)
        check_spaces(environment.observation_space, environment.action_space, self.env_id)
        return environment

    def vector(self, count: int, vectorization: Literal["sync", "async", "own"], training: bool) -> VectorEnv:
        """Several at once.

        Args:
            count: N.
            vectorization: One after the other, each in a process, or in the environment's own vector form.
            training: As in `make`.
        """
        if vectorization == "own":
            return self._own(count)
        if vectorization == "sync":
            makers = [lambda: self.make(training)] * count
            return SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self.make(training).close()  # here the message of what cannot be made can be read
        workers = [functools.partial(_make_in_worker, self, training, allowed_packages())] * count
        return AsyncVectorEnv(workers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)

    def evaluation(self, count: int) -> VectorEnv:
        """Several whose episodes begin with the seed that the caller gives."""
        makers = [lambda: PlainReset(self.make(training=False))] * count
        return SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)

    def _own(self, count: int) -> VectorEnv:
        if self.wrappers or self.atari:
            raise UserError(
                "data.init_args.vectorization: own takes no wrappers, which are for single environments; write sync."
            )
        name = _registered(self.env_id)
        if gymnasium.spec(name).vector_entry_point is None:
            raise UserError(
                f"data.init_args.vectorization: {self.env_id} has no vector form of its own; write sync or async."
            )
        if self.max_episode_steps == -1:
            raise UserError(
                "data.init_args.max_episode_steps: -1, for never, is known to single environments only; write a number "
                "of steps, or vectorization: sync."
            )
        options = dict(self.options)
        if self.max_episode_steps is not None:
            options["max_episode_steps"] = self.max_episode_steps
        with self._told(options):
            made = gymnasium.make_vec(name, count, vectorization_mode="vector_entry_point", **options)
        check_spaces(made.single_observation_space, made.single_action_space, self.env_id)
        return made

    def _made(self, options: dict[str, Any]) -> gymnasium.Env:
        name = _registered(self.env_id)
        with self._told(options):
            limit = self.max_episode_steps
            if self.atari:
                limit = -1  # none: it goes around the frame skip
            elif limit is None and gymnasium.spec(name).max_episode_steps is None:
                limit = TIME_LIMIT
            return gymnasium.make(name, max_episode_steps=limit, **options)

    @contextlib.contextmanager
    def _told(self, options: dict[str, Any]) -> Iterator[None]:
        """Say why an environment cannot be made, and what to write instead."""
        try:
            yield
        except DependencyNotInstalled as error:
            raise UserError(
                f'environment {self.env_id}: {error} In this project: pip install "fulgurite[rl]".'
            ) from error
        except gymnasium.error.Error as error:
            known = did_you_mean(self.env_id, gymnasium.registry)
            raise UserError(f"data.init_args.env_id: {str(error).rstrip('.')}.{known}") from error
        except TypeError as error:
            raise UserError(f"data.init_args.options: {self.env_id} does not take them ({error}).") from error
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"environment {self.env_id}: it cannot be made with the options {options}: {short_message(error)}."
            ) from error

    def _check_renders(self) -> None:
        probe = self._made(dict(self.options))
        modes = probe.metadata.get("render_modes", [])
        probe.close()
        if "rgb_array" not in modes:
            raise UserError(f"environment {self.env_id}: it draws no pictures; its render modes are {modes}.")

    def _as_atari(self, environment: gymnasium.Env, training: bool) -> gymnasium.Env:
        """Machado et al., "Revisiting the Arcade Learning Environment", JAIR, 2018, with the customs of DQN."""
        try:
            environment = AtariPreprocessing(environment)
        except Exception as error:
            raise UserError(
                f"data.init_args.atari: {self.env_id} is no Atari game without frame skip ({error})."
            ) from error
        if self.max_episode_steps != -1:  # gymnasium's way to say none
            environment = TimeLimit(environment, self.max_episode_steps or ATARI_TIME_LIMIT)
        if training:
            environment = ClipReward(LifeIsEpisode(environment), -1, 1)
        return FrameStackObservation(environment, 4)


def _make_in_worker(environments: Environments, training: bool, packages: Sequence[str]) -> gymnasium.Env:
    """Make one in a process that may have been spawned, and does not know what the command line has allowed."""
    allow(packages)
    return environments.make(training)


def _registered(env_id: str) -> str:
    """The id alone, after the import of what registers it, if that is allowed."""
    module, colon, name = env_id.rpartition(":")
    if colon:
        if not is_allowed(module):
            raise UserError(
                f"data.init_args.env_id: {env_id!r} imports {module}, which is not allowed; add --allow "
                f"{module.partition('.')[0]}, or use {', '.join(allowed_packages())}."
            )
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"data.init_args.env_id: {module} cannot be imported ({error}).") from error
    if env_id.startswith("ALE/") or "NoFrameskip" in env_id:
        try:
            gymnasium.register_envs(importlib.import_module("ale_py"))
        except ImportError as error:
            raise UserError(f'environment {env_id}: Atari needs ale-py: pip install "fulgurite[rl]".') from error
    return name


def _check_layers(environment: gymnasium.Env) -> None:
    """Refuse wrappers with statistics, of which evaluation would have others, and no checkpoint any."""
    layer = environment
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, (NormalizeObservation, NormalizeReward)):
            raise UserError(
                f"data.init_args.wrappers: {type(layer).__name__} keeps statistics that are in no checkpoint, and "
                "evaluation begins with others; write PPO's model.init_args.normalization, or for other agents a fixed "
                "scale, such as gymnasium.wrappers.RescaleObservation."
            )
        layer = layer.env


def check_spaces(observation: gymnasium.Space[Any], action: gymnasium.Space[Any], env_id: str) -> None:
    """Refuse what no agent here reads or does.

    Raises:
        UserError: Says which space it is and which wrapper helps.
    """
    if not (isinstance(observation, Box) or (isinstance(observation, Discrete) and observation.start == 0)):
        raise UserError(
            f"environment {env_id}: its observations are {observation}, and agents read a Box or a Discrete from 0; "
            "add gymnasium.wrappers.FlattenObservation to data.init_args.wrappers."
        )
    if isinstance(action, Discrete) and action.start == 0:
        return
    if isinstance(action, Box) and len(action.shape) == 1 and np.issubdtype(action.dtype, np.floating):
        width = np.subtract(action.high, action.low, dtype=np.float64)
        if action.is_bounded() and (width <= np.finfo(np.float32).max).all():
            return
        raise UserError(
            f"environment {env_id}: its actions {action} have no bounds; add a gymnasium.ActionWrapper of your "
            "own to data.init_args.wrappers, whose action_space is a Box with bounds."
        )
    raise UserError(
        f"environment {env_id}: its actions are {action}, and agents choose from a Discrete from 0 or a bounded, "
        "one-dimensional Box of floats; add a gymnasium.ActionWrapper of your own to data.init_args.wrappers."
    )
