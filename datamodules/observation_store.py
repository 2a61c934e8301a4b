"""Where a replay buffer keeps its observations: in memory, or in a file. Shape legend: S an observation's shape."""

import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.errors import UserError


class ObservationStore:
    """An array of observations, one a slot; with a folder in the file ``observations.bin`` there.

    A checkpoint holds the observations themselves if they are in memory. If they are in a file it holds only a stamp
    for each: a number that no other write ever had. The folder has a file ``stamps.bin`` too, written before the
    observation is. So whoever resumes from a checkpoint knows which slots hold what they held then: those whose stamps
    agree. All else was overwritten by the process that went on from the checkpoint and died, or by another that
    resumed from an older one, or has vanished with the folder, and is lost.

    This survives a process that is killed at any point, as its writes are the system's by then. If the machine itself
    stops, the system may have brought the one file to the disk and not the other: delete the folder then.

    Args:
        slots: Their number.
        shape: S.
        dtype: Of an observation.
        folder: Where the files are; of this buffer alone, so each rank needs its own. By default they are in memory.

    Raises:
        UserError: There is too little memory, or space on the disk, or the folder has another buffer's files.
    """

    def __init__(self, slots: int, shape: Sequence[int], dtype: torch.dtype, folder: Path | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
        self.bytes_each = math.prod(self.shape) * self.dtype.itemsize
        self._stamps: NDArray[np.int64] | None = None
        self.is_new = False
        """Whether it has a file into which nothing was ever written."""
        size = slots * self.bytes_each
        if folder is None:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if size > memory:
                raise UserError(
                    f"data.init_args.experience.capacity: {slots} observations of {self.bytes_each} bytes "
                    f"need {size / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory; take a "
                    "smaller capacity, or write in_memory: false, which keeps them in a file."
                )
            self.array: NDArray[Any] = np.zeros((slots, *self.shape), self.dtype)
        else:
            self.array = _file(folder / "observations.bin", (slots, *self.shape), self.dtype)
            self._stamps = _file(folder / "stamps.bin", (slots,), np.dtype(np.int64))
            self._stamp_of = self._stamps.data  # a fifth of the time of an array's item
            # No write may have another's stamp, even where an older process wrote to a folder that is gone by now; and
            # no process writes a thousand million observations in a second.
            newest = int(self._stamps.max())
            self.is_new = newest == 0
            self._count = max(newest, time.time_ns())
        self.tensor = torch.from_numpy(self.array)
        """``(slots, *S)``, the same memory."""

    def write(self, slot: int, observation: NDArray[Any]) -> None:
        """Put an observation, ``S``, into a slot."""
        if self._stamps is not None:
            self._count += 1
            self._stamp_of[slot] = self._count
        self.array[slot] = observation

    def state_dict(self, slots: int) -> dict[str, Tensor]:
        """The first so many observations, or their stamps."""
        if self._stamps is None:
            return {"observation": self.tensor[:slots].clone()}
        return {"stamp": torch.from_numpy(self._stamps[:slots].copy())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> NDArray[np.bool_]:
        """Take observations back.

        Returns:
            ``(slots,)``, which of the state's are lost; of all others the arrays hold what they held then.

        Raises:
            UserError: The state is of observations in memory and this store in a file, or the other way round.
        """
        if ("stamp" in state) != (self._stamps is not None):
            was, now = ("in a file", "in memory") if "stamp" in state else ("in memory", "in a file")
            raise UserError(
                f"the checkpoint's replay buffer keeps its observations {was}, and this run's {now}; write "
                f"data.init_args.experience.in_memory: {str('stamp' not in state).lower()}."
            )
        if self._stamps is not None:
            stamp = state["stamp"].numpy()
            lost: NDArray[np.bool_] = stamp != self._stamps[: len(stamp)]
            return lost
        observation = state["observation"]
        self.tensor[: len(observation)] = observation
        return np.zeros(len(observation), dtype=np.bool_)


def _file(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A file's content as an array; a file that does not exist yet is made, and full of zeros."""
    size = math.prod(shape) * dtype.itemsize
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if size > free:  # the file takes space only as it is filled, and a full disk then kills the process
            raise UserError(
                f"{str(path)!r} will grow to {size / 2**30:.1f} GiB, and the disk has {free / 2**30:.1f} GiB free; "
                "take a smaller data.init_args.experience.capacity, or a folder on another disk."
            )
        with path.open("wb") as file:
            file.truncate(size)
    elif path.stat().st_size != size:
        raise UserError(
            f"{str(path)!r} has {path.stat().st_size} bytes and should have {size}: it is of a replay buffer with "
            "another capacity or other observations; delete the folder, or write another."
        )
    return np.memmap(path, dtype, "r+", shape=shape).view(np.ndarray)
