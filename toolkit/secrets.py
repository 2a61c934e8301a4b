"""Keeping secrets out of what a run writes down."""

import os
import re
from typing import Any

MASK = "***"
_NAME = re.compile(
    r"(^|[_\-.])((api|access|private|secret)_?key|((api|access|auth|bearer|refresh|hf|gh|github)_?)token|secret|passw(or)?d"
    r"|passphrase|credentials?)$|^-*token$",
    re.IGNORECASE,
)
"""What keys, options and environment variables of secrets are called; a tokenizer's ``pad_token`` is none."""
_VALUE = re.compile(
    r"\b(hf_\w{20,}|sk-[\w-]{16,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{16,}|AKIA\w{16}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
"""What tokens of well-known services look like."""
SHORTEST = 8
"""Values of the environment below this length are not looked for: they would be found everywhere."""


def mask_text(text: str) -> str:
    """Text without token-like words and without the values of environment variables that are named like secrets.

    >>> mask_text("--key hf_abcdefghijklmnopqrstuvwx")
    '--key ***'
    """
    for name, value in os.environ.items():
        if _NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, MASK)
    return _VALUE.sub(MASK, text)


def mask(value: Any) -> Any:
    """A nested structure with its texts masked, and all of a value whose key is named like a secret.

    >>> mask({"password": "x", "lr": 0.1, "tags": ["a"]})
    {'password': '***', 'lr': 0.1, 'tags': ['a']}
    """
    if isinstance(value, dict):
        return {key: MASK if _is_secret(key, item) else mask(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(mask, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(mask, value))
    return mask_text(value) if isinstance(value, str) else value


def mask_hyperparameters(checkpoint: dict[str, Any]) -> None:
    """Mask what the module and the DataModule have saved of their arguments, in a checkpoint about to be written."""
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        if key in checkpoint:
            checkpoint[key] = mask(checkpoint[key])


def mask_words(words: list[str]) -> list[str]:
    """A command line whose options named like a secret have no value.

    >>> mask_words(["--api_key", "x", "--token=y", "--lr=1"])
    ['--api_key', '***', '--token=***', '--lr=1']
    """
    masked: list[str] = []
    for word in words:
        option, equals, _ = word.partition("=")
        previous = masked[-1] if masked else ""
        if equals and _NAME.search(option):
            masked.append(f"{option}={MASK}")
        elif previous.startswith("-") and "=" not in previous and _NAME.search(previous):
            masked.append(MASK)
        else:
            masked.append(mask_text(word))
    return masked


def _is_secret(key: Any, item: Any) -> bool:
    return isinstance(key, str) and isinstance(item, str) and _NAME.search(key) is not None
