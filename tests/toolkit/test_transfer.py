from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from cli import main
from tests.conformance import CASES, digits
from toolkit.errors import UserError
from toolkit.nn.vit import ViT
from toolkit.selfsupervised.byol import BYOL
from toolkit.selfsupervised.mae import MAE
from toolkit.selfsupervised.simclr import SimCLR
from toolkit.task import Task
from toolkit.transfer import resample_positions, take_backbone
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN

CLASSIFIER = CASES[ImageClassification]


def saved(task: Task, path: Path) -> Path:
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
                      enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(task, datamodule=digits())
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("source", [SimCLR, BYOL, ImageClassification], ids=lambda cls: cls.__name__)
def test_takes_everything_but_the_head(source: type[Task], tmp_path: Path) -> None:
    case = CASES[source]
    trained = case.build(case.net())
    file = saved(trained, tmp_path / "source.ckpt")
    task = CLASSIFIER.build(CLASSIFIER.net())
    head = task.net.head.weight.clone()
    transfer = take_backbone(task, file)
    backbone = getattr(trained, "backbone", trained.net)
    for name, value in task.net.state_dict().items():
        if not name.startswith("head."):
            torch.testing.assert_close(value, backbone.state_dict()[name], rtol=0, atol=0, msg=name)
            assert name in transfer.taken
    torch.testing.assert_close(task.net.head.weight, head, rtol=0, atol=0)
    assert transfer.skipped == ["head.weight", "head.bias"]
    assert not transfer.unused
    assert not transfer.reshaped
    assert f"{len(transfer.taken)} weights taken" in transfer.lines()[0]


def test_takes_the_pixel_statistics_that_the_backbone_knows(tmp_path: Path) -> None:
    source = SimCLR(SmallCNN(in_channels=1, num_classes=10), projection=(8, 4), pixel_mean=[0.25], pixel_std=[0.125])
    task = ImageClassification(SmallCNN(in_channels=1, num_classes=10), 10, pixel_mean=[0.75], pixel_std=[0.5])
    transfer = take_backbone(task, saved(source, tmp_path / "source.ckpt"))
    assert (task.normalize.mean.item(), task.normalize.std.item()) == (0.25, 0.125)
    assert {"normalize.mean", "normalize.std"} <= set(transfer.taken)


def test_positions_are_resampled_for_another_image_size(tmp_path: Path) -> None:
    file = saved(CASES[MAE].build(CASES[MAE].net()), tmp_path / "source.ckpt")
    net = ViT(num_classes=3, in_channels=1, image_size=(12, 12), patch_size=2, dim=16, depth=1, heads=2)
    transfer = take_backbone(ImageClassification(net, num_classes=3), file)
    assert transfer.reshaped == ["positions (1, 17, 16) -> (1, 37, 16)"]
    stored = torch.load(file, weights_only=True)["state_dict"]["net.backbone.positions"]
    torch.testing.assert_close(net.positions[:, 0], stored[:, 0], rtol=0, atol=0)
    assert "reshaped: positions" in "".join(transfer.lines())


def test_resampling_keeps_the_order_of_the_grid() -> None:
    row = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)  # the row of each patch
    finer = resample_positions(row, 64)
    assert finer is not None
    grid = finer.view(8, 8)
    assert (grid[1:] >= grid[:-1] - 1e-6).all()
    torch.testing.assert_close(grid, grid[:, :1].expand(8, 8))
    assert resample_positions(torch.ones(1, 6, 2), 9) is None
    assert resample_positions(torch.ones(1, 9, 2), 6) is None


def test_another_network_is_refused(tmp_path: Path) -> None:
    file = saved(CASES[SimCLR].build(CASES[SimCLR].net()), tmp_path / "source.ckpt")
    task = ImageClassification(SmallCNN(in_channels=1, num_classes=10, widths=[7, 9]), 10)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(UserError, match=r"\d+ of \d+ weights of this SmallCNN are not in its backbone: .*SimCLR"):
        take_backbone(task, file)
    for name, value in task.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    with pytest.raises(UserError, match="no such file or run folder"):
        take_backbone(task, tmp_path / "nothing.ckpt")


def test_the_command_line_fine_tunes_a_run(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    quick = [
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.accelerator=cpu",
        "--wandb.enabled=false",
    ]
    made = main(["fit", *CASES[SimCLR].arguments, *quick])
    callback = f'{{"class_path": "PretrainedBackbone", "init_args": {{"checkpoint": "{made.run_folder}"}}}}'
    tuned = main(["fit", *CLASSIFIER.arguments, *quick, f"--trainer.callbacks+={callback}", "--model.optimizer=SGD",
                  "--model.optimizer.lr=0"])  # fmt: skip
    assert "weights taken" in caplog.text
    source = torch.load(made.run_folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = tuned.model.state_dict()
    for name, value in source.items():
        own = name.replace("net.backbone.", "net.")
        if (
            name.startswith("net.backbone.")
            and ".head." not in name
            and value.is_floating_point()
            and "running" not in name
        ):
            torch.testing.assert_close(weights[own], value, rtol=0, atol=0, msg=name)
