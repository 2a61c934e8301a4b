"""Every task goes through the same: fit, checkpoint by every route, reload, predict."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import toolkit
from cli import main
from tests.conformance import CASES
from tests.conftest import ACCELERATOR
from toolkit.commands.index import subclasses
from toolkit.errors import UserError
from toolkit.task import Task

QUICK = [
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=4",
    f"--trainer.accelerator={ACCELERATOR}",
    "--trainer.log_every_n_steps=2",
]
everyone = pytest.mark.parametrize("task_class", CASES, ids=lambda cls: cls.__name__)


def test_every_task_has_a_case() -> None:
    for entry in subclasses("Task"):
        module, _, name = entry.path.rpartition(".")
        assert getattr(importlib.import_module(module), name) in CASES


def same_predictions(a: Task, b: Task, task_class: type[Task]) -> None:
    data = CASES[task_class].data()
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        ours, theirs = a.eval().predict_step(batch, 0), b.eval().predict_step(batch, 0)
    assert type(ours) is type(theirs)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@everyone
def test_command_line_route(task_class: type[Task], workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(["fit", *CASES[task_class].arguments, *QUICK])
    run = made.run_folder
    for file in ("config.yaml", "command.txt", "versions.txt", "metrics.csv", "summary.json"):
        assert (run / file).stat().st_size > 0
    assert json.loads((run / "summary.json").read_text())["best"] is not None
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["config"]["seed_everything"] == 0
    made.model.load_state_dict(content["state_dict"])
    same_predictions(toolkit.load(run), made.model, task_class)
    same_predictions(toolkit.load(run / "checkpoints" / "best.ckpt"), made.model, task_class)
    same_predictions(task_class.load_from_checkpoint(run / "checkpoints" / "best.ckpt"), made.model, task_class)
    capsys.readouterr()
    tested = main(["test", "--ckpt_path", str(run), f"--trainer.accelerator={ACCELERATOR}"])
    assert task_class.monitor.replace("val/", "test/") in capsys.readouterr().out
    assert task_class.monitor.replace("val/", "test/") in tested.trainer.callback_metrics


@everyone
def test_python_route(task_class: type[Task], workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task built in Python: its checkpoint is plain, reloads with its network, and says so without it."""
    case = CASES[task_class]
    task = case.build(case.net())
    trainer = Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=1, accelerator=ACCELERATOR, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=case.data())
    trainer.save_checkpoint("python.ckpt", weights_only=False)
    torch.load("python.ckpt", weights_only=True)
    same_predictions(task_class.load_from_checkpoint("python.ckpt", net=case.net()), task, task_class)
    with pytest.raises(UserError, match=r"load_from_checkpoint\(path, net=net\)"):
        toolkit.load("python.ckpt")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--ckpt_path", "python.ckpt"])
    assert stopped.value.code == 2
    assert "net=net" in capsys.readouterr().err


@everyone
def test_training_goes_on_from_a_checkpoint(task_class: type[Task], workdir: Path) -> None:
    """Two epochs at once, and one epoch extended by one more, end with the same weights."""
    arguments = ["fit", *CASES[task_class].arguments, *QUICK, "--wandb.enabled=false"]
    if ACCELERATOR != "cpu":
        arguments += ["--config", "configs/trainer/deterministic.yaml"]  # a GPU may add in another order each time
    whole = main(arguments)
    first = main([*arguments, "--trainer.max_epochs=1"])
    second = main([*arguments, f"--ckpt_path={first.run_folder / 'checkpoints' / 'last.ckpt'}"])
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=lambda difference, name=name: f"{name}: {difference}")


@everyone
def test_another_task_s_checkpoint_is_refused(
    task_class: type[Task], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(case for cls, case in CASES.items() if cls is not task_class)
    made = main(["fit", *other.arguments, *QUICK, "--wandb.enabled=false", "--trainer.max_epochs=1"])
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *CASES[task_class].arguments, *QUICK, f"--ckpt_path={made.run_folder}", "--wandb.enabled=false"])
    assert stopped.value.code == 2
    assert "does not fit this" in capsys.readouterr().err


@everyone
def test_predict_writes_a_row_a_sample(task_class: type[Task], workdir: Path) -> None:
    made = main(["fit", *CASES[task_class].arguments, *QUICK, "--wandb.enabled=false", "--trainer.max_epochs=1"])
    main(["predict", "--ckpt_path", str(made.run_folder), "--output=out.csv", f"--trainer.accelerator={ACCELERATOR}"])
    header, *rows = Path("out.csv").read_text().splitlines()
    assert header.startswith("path,")
    assert header.endswith(",error")
    names = list(dict.fromkeys(row.split(",")[0] for row in rows))  # an image may have a row for each detection
    assert names == [f"test[{i}]" for i in range(CASES[task_class].test_rows())]
