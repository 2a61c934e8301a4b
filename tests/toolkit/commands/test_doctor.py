from pathlib import Path

import pytest

from cli import main
from toolkit.commands.doctor import misconfigured, place, requirements

FINE = {"OMP_NUM_THREADS": "4", "WANDB_MODE": "offline"}


def test_place_by_torchrun_by_srun_and_alone() -> None:
    srun = {"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    assert place(srun | {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1"}) == (5, 6, 1)
    assert place(srun) == (1, 8, 0)
    assert place({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "3"}) == (0, 1, 0)


@pytest.mark.parametrize(
    ("environ", "shared", "versions", "word"),
    [
        ({"WANDB_MODE": "offline"}, 2**33, {}, "OMP_NUM_THREADS"),
        (FINE, 2**26, {}, "/dev/shm has 64 MiB"),
        ({"OMP_NUM_THREADS": "1"}, None, {}, "W&B"),
        (FINE, None, {"lightning": "2.7.0"}, "lightning 2.7.0"),
        (FINE, None, {"lightning": "2.6.3"}, "lightning 2.6.3"),
        (FINE, None, {"torch": "2.10.0+cpu"}, "torch 2.10.0+cpu"),
    ],
)
def test_names_what_is_misconfigured(
    environ: dict[str, str], shared: int | None, versions: dict[str, str], word: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    assert versions.keys() <= {requirement.name for requirement in requirements()}
    (line,) = misconfigured(environ, 2, tmp_path, shared, versions)
    assert word in line


@pytest.mark.parametrize("words", [["--ranks=0"], ["--ranks=x"], ["--rank=2"]])
def test_wrong_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", *words])
    assert "--ranks" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_reach_each_other(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    main(["doctor", "--ranks=2"])
    out = capfd.readouterr().out
    assert "2 over gloo: 64 MiB summed in" in out
    assert out.count("versions") == 1
