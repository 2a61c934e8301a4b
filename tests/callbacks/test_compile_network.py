from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from callbacks.compile_network import CompileNetwork
from datamodules.digits import DigitsDataModule
from toolkit.nn.mlp import MLP
from toolkit.vision.image_classification import ImageClassification


def fit(callbacks: list[CompileNetwork]) -> ImageClassification:
    torch.manual_seed(0)
    task = ImageClassification(MLP(num_classes=10, in_channels=1, image_size=(8, 8)), num_classes=10)
    trainer = Trainer(
        max_epochs=1, limit_train_batches=3, limit_val_batches=1, accelerator="cpu", logger=False, callbacks=callbacks,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule())
    return task


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_trains_alike_and_keeps_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        compiled.append(type(graph).__name__)
        return graph

    plain = fit([])
    made = fit([CompileNetwork(backend=backend)])  # type: ignore[arg-type]  # torch takes a function, too
    assert compiled
    assert made.state_dict().keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], weight, msg=name)
