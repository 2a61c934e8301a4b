"""`fit --into FOLDER`: one command for the first start and for all that follow."""

from pathlib import Path

import pytest

from cli import main
from toolkit.commands import fit

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


def test_a_new_folder_starts_at_the_checkpoint_and_then_goes_on_by_itself(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in FIT if word != "--into=runs/a/b"] + ["--trainer.limit_train_batches=2"]
    main([*words, "--into=runs/a/b", "--trainer.max_epochs=1"])
    words += ["--into=runs/a/c", "--ckpt_path=runs/a/b/checkpoints/last.ckpt"]
    assert main([*words, "--trainer.max_epochs=2"]).trainer.global_step == 4
    assert "epoch 1/2" not in capsys.readouterr().out
    main([*words, "--trainer.max_epochs=3"])
    assert "resume      runs/a/c/checkpoints/last.ckpt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("start", "message"), [("nowhere", "no such file or run folder: 'nowhere'"), ("last", "leave one of the two out")]
)
def test_a_start_that_is_not_there_is_refused(
    start: str, message: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*FIT, "--ckpt_path", start])
    assert message in capsys.readouterr().err
    assert not (workdir / "runs").exists()


def test_the_differences_are_told_without_a_checkpoints_tensors(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main([*FIT, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"])
    asked = []
    read = fit.read_checkpoint
    monkeypatch.setattr(fit, "read_checkpoint", lambda path, sharded=True: asked.append(sharded) or read(path, sharded))
    main([*FIT, "--trainer.max_epochs=2", "--trainer.limit_train_batches=1"])
    assert asked == [False]


def test_a_config_names_no_run_folder(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workdir / "named.yaml").write_text("into: runs/a/b\n")
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", "configs/vision/classification_digits.yaml", "--config", "named.yaml"])
    assert "write --into runs/a/b on the command line" in capsys.readouterr().err


def test_two_runs_do_not_go_into_one_folder(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify-resume", *FIT[1:]])
    assert "--into names one run folder" in capsys.readouterr().err
