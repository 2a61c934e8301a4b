"""STUB."""

from lightning.pytorch.callbacks import TQDMProgressBar


def make_progress_bar():
    return TQDMProgressBar()
