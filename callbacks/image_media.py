"""STUB."""

from lightning.pytorch import Callback


class ConfusionMatrix(Callback):
    """Stub."""

    def __init__(self, *a: object) -> None:
        pass


class InputImages(Callback):
    """Stub."""

    def __init__(self, *a: object) -> None:
        pass


class WorstErrors(Callback):
    """Stub."""

    def __init__(self, *a: object) -> None:
        pass
