"""The end of the processes' connection to each other."""

import atexit
import functools

import torch.distributed as dist


@functools.cache
def close_at_exit() -> None:
    """Close the connection before the interpreter goes, as Lightning does for NCCL alone.

    Gloo's threads, torn down with the process, now and then end it with SIGABRT, although all of its work is done. To
    be called when a verb has succeeded only: behind an error, closing could wait for ranks that will never answer.
    """
    atexit.register(_close)


def _close() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
