"""Networks that begin with somebody else's weights, and how those weights get here."""

import pickle
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.taken_weights import Transfer

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without an answer after which a download fails; torch.hub alone would wait for ever."""

_enabled: ContextVar[bool] = ContextVar("pretrained_enabled", default=True)


def pretrained_enabled() -> bool:
    """Whether constructors load pretrained weights: true outside `without_pretrained`."""
    return _enabled.get()


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build networks without loading pretrained weights, because a checkpoint's will replace them at once.

    A task that is rebuilt from its checkpoint thus needs neither the network nor the file of the first training.

    >>> with without_pretrained():
    ...     pretrained_enabled()
    False
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


class PretrainedNetwork(nn.Module, ABC):
    """A network whose constructor may load weights, and which then says how its pixels must be normalised, if any.

    A constructor calls `load_pretrained` last, if weights were asked for and `pretrained_enabled` says so. It sets
    ``pixel_mean`` and ``pixel_std`` in either case, since they are part of the architecture that the weights expect.
    """

    pixel_mean: Sequence[float] | None = None
    """Mean of each channel in ``[0, 1]`` in the first training; None if unknown: the data's own then serves."""
    pixel_std: Sequence[float] | None = None
    """Standard deviation of each channel, likewise."""
    transfer: Transfer | None = None
    """Which weights `load_pretrained` took; a fit that begins with them says so."""

    @abstractmethod
    def load_pretrained(self) -> None:
        """Replace the parameters by the pretrained ones, from a local file or a download, and set ``transfer``.

        Raises:
            UserError: There is no such file, it does not fit, or the download failed.
        """

    def found_arguments(self) -> dict[str, Any]:
        """Plain constructor arguments that were read beside the weights, for a checkpoint to build the network from."""
        return {}


def download_state_dict(url: str) -> dict[str, Tensor]:
    """Read a published state dict from torch.hub's folder, after downloading it if it is not there.

    Args:
        url: Address of a file whose name ends in its hash, as torchvision's do.

    Returns:
        Tensors on the CPU; tensors only are read (``weights_only=True``).

    Raises:
        UserError: The download failed or the file is damaged; says where to place the file by hand.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        target = Path(torch.hub.get_dir(), "checkpoints", url_file_name(url))
        raise UserError(
            f"weights: could not get {url} ({_first_line(error)}). Download that address elsewhere and place the file "
            f"as {target} (replace it if it is there: it is damaged), or set weights to the path of the file."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a local file.

    Args:
        path: A file that ``torch.save(net.state_dict(), path)`` wrote.

    Returns:
        Tensors on the CPU; tensors only are read (``weights_only=True``).

    Raises:
        UserError: There is no such file, or it holds something else.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"weights: no such file: {str(path)!r}; give the path of a state dict, such as resnet18.pth.")
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise UserError(
            f"weights: {str(path)!r} is not readable ({_first_line(error)}); "
            "write it by torch.save(net.state_dict(), path)."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        found = f"a dict with {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"weights: {str(path)!r} holds {found}, not a state dict of tensors by name; "
            "write it by torch.save(net.state_dict(), path)."
        )
    return content


def url_file_name(url: str) -> str:
    """The name under which torch.hub stores an address.

    >>> url_file_name("https://download.pytorch.org/models/resnet18-f37072fd.pth")
    'resnet18-f37072fd.pth'
    """
    return PurePosixPath(urlparse(url).path).name


def _first_line(error: Exception) -> str:
    text = str(error).strip() or "no reason given"
    return f"{type(error).__name__}: {text.splitlines()[0]}"
