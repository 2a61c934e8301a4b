"""STUB."""

from lightning.pytorch import Callback


class Throughput(Callback):
    """Stub."""

    def __init__(self, *a: object) -> None:
        pass
