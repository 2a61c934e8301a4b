"""The verb `play`: an agent's episodes, from its checkpoint, as a table and a film."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.checkpoint import load
from toolkit.commands.evaluate import stored_run
from toolkit.commands.parts import Parts
from toolkit.commands.toolkit_cli import ToolkitCLI
from toolkit.errors import UserError
from toolkit.reinforcement.player import Watched, check_renders, play_and_watch
from toolkit.reinforcement.reinforcement_task import ReinforcementTask

FRAMES_PER_SECOND = 30
MOST_FRAMES = 1000
"""Of a film, which lie in memory until it is written; a longer episode is shown with gaps."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"play: {message}. Write python cli.py play RUN_FOLDER_OR_CHECKPOINT [--episodes 10].")


def play(args: Sequence[str], parts: Parts) -> list[Watched]:
    """Play, print the returns, and write the film.

    Args:
        args: The words after ``play``.
        parts: What lies above toolkit.

    Returns:
        The episodes.

    Raises:
        UserError: A wrong command line; a checkpoint that holds no agent; no way to render or to write.
    """
    parser = _Parser(prog="cli.py play", add_help=False, allow_abbrev=False)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--video", type=str)
    options, rest = parser.parse_known_args(args)
    if options.episodes < 1:
        raise UserError(f"play: --episodes: need at least 1, got {options.episodes}.")
    ending = Path(options.video).suffix if options.video else ".gif"
    if options.video != "none" and ending not in (".gif", ".mp4"):
        raise UserError(f"play: --video: need a name that ends with .gif or .mp4, or none, got {options.video!r}.")
    with stored_run("play", rest, parts) as (checkpoint, arguments):
        agent = load(checkpoint)
        if not isinstance(agent, ReinforcementTask):
            raise UserError(f"play: {type(agent).__name__} plays nothing; give a checkpoint of an agent.")
        cli = ToolkitCLI("play", arguments, parts)
        _check_fits(agent, cli.model, checkpoint)
        data: Any = cli.datamodule
    films = options.video != "none" and _can_film(data, is_asked=options.video is not None)
    watched = []
    print(f"{'episode':>8} {'seed':>8} {'return':>12} {'length':>8}")
    for number in range(options.episodes):
        seed, seen = options.seed + number, films and number == 0
        environment = data.environments.make(training=False, render=seen)
        watched.append(play_and_watch(agent, environment, seed, MOST_FRAMES if seen else 0))
        episode = watched[-1]
        print(f"{number:>8} {seed:>8} {episode.episode_return:>12.2f} {episode.length:>8}", flush=True)
    returns = [episode.episode_return for episode in watched]
    print(f"\nmean {statistics.fmean(returns):.2f}, min {min(returns):.2f}, max {max(returns):.2f}")
    if films:
        own = checkpoint.parent.parent / "play" / f"seed_{options.seed}.gif"
        print(f"film        {_write(watched[0].frames, Path(options.video) if options.video else own)}")
    return watched


def _check_fits(agent: ReinforcementTask, of_environment: Any, checkpoint: Path) -> None:
    """Refuse an environment whose observations or actions are not those that the agent was trained on."""
    ours, theirs = ({name: value.shape for name, value in one.state_dict().items()} for one in (agent, of_environment))
    if ours != theirs:
        raise UserError(
            f"play: the agent of {str(checkpoint)!r} does not fit the observations and actions of this environment; "
            "play it in the one that it was trained in, or with options and wrappers that keep these."
        )


def _can_film(data: Any, is_asked: bool) -> bool:
    """Whether the environment draws pictures; who has not asked for a film is only told."""
    try:
        check_renders(data.player())
    except UserError as error:
        if is_asked:
            raise
        print(f"no film: {error}")
        return False
    return True


def _write(frames: list[np.ndarray], path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gif":
            _write_gif(frames, path)
        else:
            _write_mp4(frames, path)
    except OSError as error:
        raise UserError(f"play: cannot write {str(path)!r} ({error.strerror}); give another --video.") from error
    return path


def _write_gif(frames: list[np.ndarray], path: Path) -> None:
    import PIL.Image

    first, *others = (PIL.Image.fromarray(frame) for frame in frames)
    milliseconds = 1000 // FRAMES_PER_SECOND
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)


def _write_mp4(frames: list[np.ndarray], path: Path) -> None:
    try:
        from imageio.v2 import mimsave

        mimsave(path, frames, fps=FRAMES_PER_SECOND, macro_block_size=2)  # type: ignore[arg-type]
    except (ImportError, ValueError) as error:  # imageio without its ffmpeg raises the latter
        raise UserError(
            'play: an mp4 needs imageio and its ffmpeg: pip install "fulgurite[rl]"; or name a .gif.'
        ) from error
