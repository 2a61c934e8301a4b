"""NCCL's flight recorder: after a hang, each rank's last collectives can be read."""

import os
from pathlib import Path

NAME = "nccl_trace_rank_"


def record_collectives(folder: Path) -> None:
    """Switch the recorder on, for process groups to come; what the user has set stays.

    Names as of torch 2.9 and newer. A rank that waits longer than the strategy's ``timeout`` writes
    ``<folder>/nccl_trace_rank_<rank>``; ``torchfrtrace`` reads these files.
    """
    settings = {
        "TORCH_FR_BUFFER_SIZE": "2000",  # collectives, some 100 bytes each
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": str(folder.absolute() / NAME),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
