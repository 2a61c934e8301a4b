"""STUB."""

from lightning.pytorch import Callback


class PredictionWriter(Callback):
    """Stub."""

    def __init__(self, *a: object) -> None:
        pass
