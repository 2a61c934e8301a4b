"""The one exception of the toolkit that is addressed to the person who typed the command, and others' in its words."""


class UserError(Exception):
    """Something the user gave is wrong; the command line prints the message alone and exits with code 2.

    The message says what is wrong, what was received, and what to write instead. It never carries a traceback, so raise
    it only where the reader can act on the text.

    >>> raise UserError("data.init_args.root: no such folder: 'flowres'. Did you mean 'flowers'?")
    Traceback (most recent call last):
    ...
    toolkit.errors.UserError: data.init_args.root: no such folder: 'flowres'. Did you mean 'flowers'?
    """


def short_message(error: Exception) -> str:
    """The type and first line of another's error, for a message; that of a worker process is behind many others.

    >>> short_message(KeyError("5x5"))
    "KeyError: '5x5'"
    """
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
