"""Mistakes; that the file is right is in tests/toolkit/test_sharded_strategy.py."""

from pathlib import Path

import pytest

from cli import main
from toolkit.checkpoint_io import write


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name one run folder or checkpoint"),
        (["a", "b"], "name one run folder or checkpoint"),
        (["nowhere"], "no such file or run folder: 'nowhere'"),
        (["one.ckpt"], "'one.ckpt' is a single file already"),
    ],
)
def test_mistakes(args: list[str], message: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write({"state_dict": {}}, Path("one.ckpt"))
    with pytest.raises(SystemExit) as stopped:
        main(["consolidate", *args])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
