"""Options of a verb that takes no config."""

import argparse
from typing import NoReturn

from toolkit.errors import UserError


class OptionParser(argparse.ArgumentParser):
    """Raises one message that ends with how it is written.

    Args:
        verb: Whose options these are.
        usage: A command that is right.
    """

    def __init__(self, verb: str, usage: str) -> None:
        super().__init__(prog=f"cli.py {verb}", add_help=False, allow_abbrev=False)
        self.verb, self.example = verb, usage

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise UserError(f"{self.verb}: {message}. Write {self.example}.")
