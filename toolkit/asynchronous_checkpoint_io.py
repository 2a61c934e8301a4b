"""Checkpoints that are written while the training goes on."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from toolkit.checkpoint_io import DurableCheckpointIO


class AsynchronousCheckpointIO(DurableCheckpointIO):
    """Copies a checkpoint to the CPU's memory, and writes the copy in a thread, as durably as its base class.

    One is written at a time: the next one waits for it. A write that failed ends the run there, or at its end.
    """

    def __init__(self, retries: int = 2, wait: float = 5.0) -> None:
        super().__init__(retries, wait)
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Copy, and begin to write.

        Raises:
            UserError: The one before could not be written.
        """
        self.finish()
        snapshot = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
        self._thread = self._thread or ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing = self._thread.submit(super().save_checkpoint, snapshot, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, once it is there."""
        self.finish()
        return super().load_checkpoint(path, map_location, weights_only)

    def finish(self) -> None:
        """Wait until it is written.

        Raises:
            UserError: It could not be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def teardown(self) -> None:
        """Finish, and end the thread."""
        try:
            self.finish()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None
