"""The command line in processes of their own, forked from one that has imported everything: a start costs no seconds.

`run` stands for ``subprocess.run([sys.executable, "cli.py", *words])``, and with ``ranks=2`` for torchrun; `call` does it
with any function. The process that is forked from runs nothing itself, so each child begins alike.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from tests.conftest import ROOT

# not wandb, which makes a folder when it is imported, and takes it away at exit
PRELOADED = ["cli", "callbacks.defaults", "datamodules.facts", "toolkit.commands.fit", "lightning.pytorch.cli"]


@pytest.fixture
def quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `verify-resume` fork its runs."""
    starts = SimpleNamespace(run=lambda command, **_: run(command[2:], cwd=Path.cwd()))
    monkeypatch.setattr("toolkit.commands.verify_resume.subprocess", starts)


Done = subprocess.CompletedProcess[str]


def run(words: list[str], **how: Any) -> Done:
    """Run the command line whose words after ``cli.py`` are given; options of `call`."""
    return call(_command_line, [words], **how)


def call(
    function: Callable[..., object],
    arguments: Sequence[object],
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    ranks: int = 1,
    timeout: float = 240,
) -> Done:
    """Call a function in a new session.

    Args:
        function: A module's.
        arguments: Its own.
        cwd: Working directory.
        env: The whole environment; this process's if None.
        ranks: Processes; each is told its place as torchrun would.
        timeout: Seconds, after which all are killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        environment = dict(os.environ if env is None else env)
        method = multiprocessing.get_start_method()  # a child would start its own as it was started itself
        child = context.Process(target=_session, args=(function, arguments, method, cwd, environment, ranks, files))
        child.start()
        child.join(timeout)
        if child.exitcode is None:
            assert child.pid is not None
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
            raise subprocess.TimeoutExpired(str(arguments), timeout, *(file.read_bytes() for file in files))
        out, err = (file.read_text(errors="replace") for file in files)
        return subprocess.CompletedProcess(str(arguments), child.exitcode, out, err)


def _command_line(words: list[str]) -> None:
    from cli import main

    sys.argv = [str(ROOT / "cli.py"), *words]
    main(words)


def _session(
    function: Callable[..., object],
    arguments: Sequence[object],
    start_method: str,
    cwd: Path,
    env: dict[str, str],
    ranks: int,
    files: list[Path],
) -> None:
    """Become the leader of a session, whose ranks a signal to the group reaches; end as the first that fails."""
    os.setsid()
    multiprocessing.set_start_method(start_method, force=True)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if ranks == 1:
        _leave(_status(function, arguments))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_RUN_ID": "tests"}
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
            rank_zero_only.rank = rank  # which the import took from the environment
            _leave(_status(function, arguments))
        children.append(child)
    _leave(_first_failure(children))


def _status(function: Callable[..., object], arguments: Sequence[object]) -> int:
    """What the interpreter would exit with."""
    try:
        function(*arguments)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> None:
    """Exit with what a script would do at its end, and nothing of the process that this one was forked from."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first_failure(children: list[int]) -> int:
    """Wait for all; the exit code of the first that did not end with 0, after which the others are told to end."""
    failure = 0
    while children:
        child, status = os.waitpid(0, os.WNOHANG)
        if child == 0:
            time.sleep(0.02)
            continue
        children.remove(child)
        code = os.waitstatus_to_exitcode(status)
        if code and not failure:
            failure = code if code > 0 else 128 - code
            for other in children:
                os.kill(other, signal.SIGTERM)
    return failure
