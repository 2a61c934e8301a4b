from pathlib import Path

import pytest

from cli import main
from toolkit.commands.submit import seconds
from toolkit.errors import UserError

ASK = ["submit", "--config", "configs/vision/classification_digits.yaml", "--nodes=2", "--gpus=4", "--time=2:00:00"]


def test_dry_run_prints_the_filled_template_and_writes_nothing(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*ASK, "--seeds=3", "--sbatch", "partition=long", "--dry_run", "--trainer.max_epochs=7"])
    script = capsys.readouterr().out
    for line in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--array=0-2", "--partition=long"):
        assert f"\n#SBATCH {line}\n" in script
    assert "\n#SBATCH --signal=B:USR1@120\n" in script
    assert "--trainer.max_epochs=7" in script
    assert "--trainer.num_nodes=2 --trainer.devices=4 --trainer.strategy=ddp" in script
    assert "@" not in script.replace("USR1@120", "").replace("between @ and", "")
    assert not (workdir / "runs").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--nodes=0", "--nodes: need at least 1, got 0"),
        ("--nodes=x", "invalid int"),
        ("--nodes=3", "global batch of 64 does not divide by 3 nodes x 4 ranks; write a multiple of 12"),
        ("--time=1h", "'1h' is no time limit"),
        ("--time=2", "not longer than the 120 s"),
        ("--trainer.max_epoch=3", "max_epochs"),
        ("--config=configs/vision/none.yaml", "none.yaml"),
        ("--into=runs/a/b", "--into: submit makes the job's run folder itself, got 'runs/a/b'"),
        ("--ckpt_path=last", "a job trains in a run folder of its own"),
        ("--ckpt_path=nowhere", "no such file or run folder: 'nowhere'"),
    ],
)
def test_a_request_that_cannot_run_is_refused(
    option: str, message: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*ASK, option, "--dry_run"])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--config=configs/trainer/fsdp.yaml"], ["--trainer.strategy=ddp_find_unused_parameters_true"]],
    ids=["overlay", "option"],
)
def test_a_strategy_that_is_named_stays(words: list[str], workdir: Path) -> None:
    assert "--trainer.strategy=ddp " not in main([*ASK, *words, "--dry_run"])


def test_a_config_names_the_job(workdir: Path) -> None:
    Path("wide.yaml").write_text("name: wide\n")
    assert "\n#SBATCH --job-name=wide\n" in main([*ASK, "--config=wide.yaml", "--dry_run"])


def test_no_sbatch(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="2"):
        main(ASK)
    assert "no sbatch here" in capsys.readouterr().err
    assert not (workdir / "runs").exists()


@pytest.mark.parametrize("text", ["", "1:2:3:4", "2h", "-5", "1-"])
def test_a_time_that_slurm_does_not_read(text: str) -> None:
    with pytest.raises(UserError, match="--time"):
        seconds(text)
