"""Files of a pretrained model: of a folder on this machine, or of the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


def pretrained_file(pretrained: str, name: str) -> Path:
    """Where a file of a pretrained model lies, after downloading it if it has to be.

    Args:
        pretrained: A folder, or a name on the hub, such as "openai-community/gpt2".
        name: Such as "config.json".

    Raises:
        UserError: There is no such folder or file, or the download failed.
    """
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            found = ", ".join(sorted(child.name for child in folder.iterdir())[:5]) or "nothing"
            raise UserError(
                f"pretrained: the folder {pretrained!r} has no {name}, only {found}; give one that "
                "save_pretrained wrote, with config.json, model.safetensors and tokenizer.json."
            )
        return folder / name
    if pretrained.startswith(("/", ".", "~")) or pretrained.count("/") > 1 or not pretrained:
        raise UserError(f"pretrained: no such folder: {pretrained!r}; give one that exists, or a name on the hub.")
    hub = _hub()
    try:
        return Path(hub.hf_hub_download(pretrained, name))
    except Exception as error:  # a dozen types, of two libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"pretrained: {pretrained!r} is no folder here, and {name} could not be had from the hub "
            f"({type(error).__name__}: {reason}). Check the name; without a network, download the model's config.json, "
            "model.safetensors and tokenizer.json elsewhere, and give the path of their folder."
        ) from error


def read_architecture(pretrained: str) -> dict[str, Any]:
    """The ``config.json`` of a pretrained model.

    Raises:
        UserError: It cannot be had, or does not name a kind of model.
    """
    file = pretrained_file(pretrained, "config.json")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"pretrained: {str(file)!r} is not readable ({error}).") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise UserError(f"pretrained: {str(file)!r} has no model_type; give a model of the package transformers.")
    return content


def source_of(pretrained: str | None) -> str:
    """The model that the data's tokenizer is of.

    Raises:
        UserError: It is of none.
    """
    if pretrained is None:
        raise UserError(
            "pretrained: the data's tokenizer is of no pretrained model; write data.init_args.tokenizer: class_path: "
            "PretrainedTokenizer, init_args: {pretrained: FOLDER_OR_NAME}."
        )
    return pretrained


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            "pretrained: a model of the hub needs the package huggingface_hub, which is not installed; write python -m "
            'pip install "fulgurite[language]", or give the path of a folder.'
        ) from error
    return huggingface_hub
