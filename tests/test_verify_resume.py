"""The verb that checks a config: it says equal of ours, and finds the first step of one that is not."""

from pathlib import Path

import pytest
import yaml

from cli import main
from tests.forked import quick_starts  # noqa: F401  # a fixture

DIGITS = ["--config", "configs/vision/classification_digits.yaml", "--trainer.accelerator=cpu", "--steps=24"]

NOISY = """
import random

from torch import Tensor
from toolkit.nn.mlp import MLP


class Noisy(MLP):
    \"\"\"Noise of a generator that nobody seeds.\"\"\"

    noise = random.SystemRandom()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + self.noise.random() * self.training)
"""


def test_a_config_of_ours_is_equal(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed early, so that the resumed part is the longer one."""
    assert main(["verify-resume", *DIGITS, "--kill_after=9"])
    assert "equal       every sample, loss and weight" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_starts")
def test_what_differs_is_named(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("noisy.py").write_text(NOISY)
    Path("noisy.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"net": {"class_path": "noisy.Noisy"}}}}))
    with pytest.raises(SystemExit) as stopped:
        main(["verify-resume", *DIGITS, "--config", "noisy.yaml"])
    assert stopped.value.code == 1
    assert "differs     epoch 0, batch 0, rank 0: loss " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name a config"),
        (["--config", "x.yaml", "--steps", "5", "--kill_after", "5"], "need 0 < kill_after < steps, got 5 and 5"),
        (["--config", "x.yaml", "--steps", "many"], "argument --steps: invalid int value"),
        (["--config", "x.yaml"], "no such file: 'x.yaml'"),
    ],
)
def test_mistakes(args: list[str], message: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify-resume", *args])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
