"""`fit --into FOLDER`: one command for the first start and for all that follow."""

from pathlib import Path

import pytest

from cli import main

FIT = ["fit", "--config", "configs/vision/classification_digits.yaml", "--trainer.accelerator=cpu", "--into=runs/a/b",
       "--model.net=MLP", "--wandb.enabled=false", "--test_after_fit=false"]  # fmt: skip


def test_the_second_start_goes_on(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*FIT, "--trainer.max_epochs=1"])
    assert (workdir / "runs/a/b/checkpoints/last.ckpt").is_file()
    first = capsys.readouterr().out
    assert "resume" not in first
    cli = main([*FIT, "--trainer.max_epochs=2"])
    again = capsys.readouterr().out
    assert "resume      runs/a/b/checkpoints/last.ckpt" in again
    assert "changed     trainer.max_epochs: 1 -> 2" in again
    assert cli.trainer.global_step == 2 * cli.trainer.num_training_batches
    assert [path.name for path in (workdir / "runs").glob("*/*")] == ["b"]


def test_a_file_is_no_run_folder(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workdir / "runs/a").mkdir(parents=True)
    (workdir / "runs/a/b").touch()
    with pytest.raises(SystemExit, match="2"):
        main(FIT)
    assert "is a file" in capsys.readouterr().err
