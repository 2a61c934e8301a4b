import importlib
import inspect

from tests.conftest import ROOT
from toolkit.commands.index import index
from toolkit.commands.listing import listing


def sections() -> dict[str, dict[str, str]]:
    """Title to name to help."""
    found: dict[str, dict[str, str]] = {}
    for line in listing().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            rows = found[line[:-1]] = {}
        elif line:
            name, _, text = line.strip().partition("  ")
            rows[name] = text.strip()
    return found


def test_titles_in_order() -> None:
    assert list(sections()) == ["families", "tasks", "datamodules", "networks", "callbacks", "configs"]


def test_families_name_their_tasks() -> None:
    found = sections()
    named = [name for names in found["families"].values() for name in names.split(", ")]
    assert sorted(named) == sorted(found["tasks"])
    assert "ImageClassification" in found["families"]["vision"]


def test_nothing_is_listed_that_cannot_be_built() -> None:
    for title in ("tasks", "datamodules", "networks", "callbacks"):
        for name in sections()[title]:
            module, _, _ = index()[name].path.rpartition(".")
            assert not inspect.isabstract(getattr(importlib.import_module(module), name)), name
    assert not {"Task", "BaseDataModule", "ImageDataModule", "PublicImages"} & set().union(*sections().values())


def test_networks_are_whole_networks() -> None:
    names = set(sections()["networks"])
    assert names >= {"MLP", "CIFARResNet", "ViT", "AirbenchCNN", "SmallCNN", "TorchvisionClassifier"}
    assert not names & {"Normalize", "Attention", "Block", "PatchEmbed", "Augmentation", "Mixup", "RandomCrop"}


def test_own_callbacks_are_listed_and_no_others() -> None:
    names = sections()["callbacks"]
    assert {"RunSummary", "RunFolder"} <= set(names)
    assert all(index()[name].path.startswith("callbacks.") for name in names)


def test_every_config_is_listed_by_its_first_line() -> None:
    configs = sections()["configs"]
    found = [file for file in (ROOT / "configs").rglob("*.yaml") if file.parent.name != "cluster"]  # job templates
    files = {file.relative_to(ROOT).as_posix(): file for file in found}
    assert set(configs) == set(files)
    for name, file in files.items():
        assert configs[name] == file.read_text().splitlines()[0].lstrip("# ")
        assert configs[name], name
