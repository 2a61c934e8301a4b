"""A head that begins with the classes' mean directions."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cli import main
from datamodules.sampler import BatchIndex
from tests.pretrained import tiny_bert
from toolkit.errors import UserError
from toolkit.nn.cosine_head import CosineLinear

QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--wandb.enabled=false"]
WORDS = ["fit", "--model=TextClassification", "--data=TextClassificationDataModule", "--data.train=train.csv", "--data.batch_size=8",
         "--data.val_size=0.2", "--data.tokenizer=PretrainedTokenizer", "--data.tokenizer.pretrained=bert", "--model.net=PretrainedEncoder",
         "--model.optimizer=SGD", "--model.optimizer.lr=0", "--trainer.callbacks=ImprintedHead"]  # fmt: skip


@pytest.fixture
def table(workdir: Path) -> Path:
    rows = [f"the {word} dog {n},{word}" for n in range(20) for word in ("good", "bad", "lazy")]
    Path("train.csv").write_text("\n".join(["text,label", *rows]))
    tiny_bert(workdir / "bert")
    return workdir


def test_the_head_is_the_mean_direction_of_each_class(table: Path) -> None:
    made = main([*WORDS, *QUICK, "--model.net.cosine_scale=20"])
    net, data = made.model.net.eval(), made.datamodule.dataset("train")
    batch = data[BatchIndex(0, torch.arange(len(data)))]
    with torch.no_grad():
        features = F.normalize(net.forward_features(batch.token, batch.mask), dim=1)
    mean = F.normalize(torch.stack([features[batch.label == k].mean(dim=0) for k in range(3)]), dim=1)
    torch.testing.assert_close(net.head.weight.detach(), mean)
    with torch.no_grad():
        torch.testing.assert_close(net(batch.token, batch.mask), 20 * features @ mean.T)


def test_a_resumed_run_keeps_its_head(table: Path) -> None:
    words = [*WORDS, *QUICK, "--model.net.cosine_scale=20", "--model.optimizer.lr=0.1", "--trainer.log_every_n_steps=1"]
    whole: Any = main([*words, "--trainer.max_epochs=2"]).model
    first = main(words).run_folder
    resumed: Any = main(["resume", str(first), "--trainer.max_epochs=2"]).model
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_classes_without_a_sample_and_mistakes(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = CosineLinear(2, 3, scale=5.0)
    before = head.weight.detach().clone()
    head.imprint(torch.tensor([[3.0, 0.0], [0.0, 9.0], [4.0, 0.0]]), torch.tensor([0, 0, 2]))
    torch.testing.assert_close(head.weight.detach()[[0, 2]], torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))
    assert torch.equal(head.weight[1], before[1])
    with pytest.raises(UserError, match="positive scale"):
        CosineLinear(2, 3, scale=0.0)
    with pytest.raises(SystemExit):
        main([*WORDS, *QUICK])
    assert "write model.init_args.net.init_args.cosine_scale: 20" in capsys.readouterr().err
