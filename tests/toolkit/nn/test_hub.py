"""Files of pretrained models: from a folder, from the hub, and what is said where they are not."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.nn.hub import pretrained_file, read_architecture, source_of
from toolkit.nn.transformers_model import build_model, pretrained_weights


def test_a_file_of_a_folder_and_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert pretrained_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    asked: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args: asked.append(args) or tmp_path / args[1])
    assert read_architecture("somebody/model") == {"model_type": "bert"}
    assert asked == [("somebody/model", "config.json")]


def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    (tmp_path / "vocab.txt").write_text("")
    with pytest.raises(UserError, match=r"has no config.json, only vocab.txt"):
        read_architecture(str(tmp_path))
    for content, message in (("{", "not readable"), ("[]", "no model_type")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=message):
            read_architecture(str(tmp_path))
    for name in ("./nowhere", "/no/where", "a/b/c"):
        with pytest.raises(UserError, match="no such folder"):
            pretrained_file(name, "config.json")

    def offline(*args: Any) -> None:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        UserError, match=r"'somebody/model' is no folder here.*\(OSError: no route to host\).*path of their folder"
    ):
        pretrained_file("somebody/model", "config.json")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'pip install "fulgurite\[language\]"'):
        pretrained_file("somebody/model", "config.json")
    with pytest.raises(UserError, match="of no pretrained model"):
        source_of(None)


def test_models_that_cannot_be_built_or_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot build this model"):
        build_model({"model_type": "nonsense"}, "AutoModel", "sdpa")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        pretrained_weights(str(tmp_path), "AutoModel")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(Exception, match=r"cannot be read|header"):
        pretrained_weights(str(tmp_path), "AutoModel")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'pip install "fulgurite\[language\]"'):
        build_model({"model_type": "bert"}, "AutoModel", "sdpa")
