"""A DataModule for the cluster's tests: it writes down where its data were prepared."""

import os

from datamodules.digits import DigitsDataModule


class CountedDigits(DigitsDataModule):
    """Digits, and a line in the file ``PREPARED`` each time they are prepared."""

    def prepare_data(self) -> None:
        super().prepare_data()
        with open(os.environ["PREPARED"], "a") as file:
            file.write(os.environ["SLURMD_NODENAME"] + "\n")
