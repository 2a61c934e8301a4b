from pathlib import Path

import PIL.Image
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.error import DependencyNotInstalled

from cli import main
from tests.conformance import CASES
from toolkit.reinforcement.dqn import DQN
from toolkit.vision.image_classification import ImageClassification

QUICK = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--wandb.enabled=false"]


@pytest.fixture
def run(workdir: Path) -> str:
    return str(main(["fit", *CASES[DQN].arguments, *QUICK, "--data.max_episode_steps=15"]).run_folder)


def test_a_table_and_a_film(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    watched = main(["play", run, "--episodes", "3", "--seed", "5"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["episode", "seed", "return", "length"]
    assert [line[:2] for line in lines[1:4]] == [["0", "5"], ["1", "6"], ["2", "7"]]
    assert [float(line[2]) for line in lines[1:4]] == [episode.episode_return for episode in watched]
    with PIL.Image.open(Path(run) / "play" / "seed_5.gif") as film:
        assert film.n_frames > 1
    assert len(watched[0].frames) == watched[0].length + 1
    assert watched[1].frames == []
    again = main(["play", run, "--episodes", "1", "--seed", "6", "--video", "none"])
    assert again[0].episode_return == watched[1].episode_return


def test_an_mp4(run: str) -> None:
    main(["play", "--ckpt_path", run, "--episodes", "1", "--video", "film.mp4"])
    assert Path("film.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_run_s_own_film_is_in_its_folder(run: str) -> None:
    (film,) = Path(run).glob("media/val/episode/*.gif")
    with PIL.Image.open(film) as frames:
        assert frames.n_frames > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--episodes", "0"], "--episodes: need at least 1, got 0"), (["--video", "film.avi"], "ends with .gif or .mp4"),
     (["--episodes", "few"], "invalid int value: 'few'")],
)  # fmt: skip
def test_wrong_words(words: list[str], message: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["play", "nowhere", *words])
    assert message in capsys.readouterr().err


def test_what_is_no_agent(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(["fit", *CASES[ImageClassification].arguments, *QUICK, "--trainer.limit_train_batches=1"])
    with pytest.raises(SystemExit):
        main(["play", str(made.run_folder)])
    assert "ImageClassification plays nothing" in capsys.readouterr().err


def test_without_what_draws_it_plays_on(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(self: CartPoleEnv) -> None:
        raise DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(CartPoleEnv, "render", render)
    assert len(main(["play", run, "--episodes", "2"])) == 2
    assert "no film: the environment cannot be rendered: DependencyNotInstalled: pygame" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["play", run, "--video", "a.gif"])
    assert "pygame is not installed" in capsys.readouterr().err


def test_an_environment_of_another_kind_is_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["play", run, "--data.env_id=Acrobot-v1"])
    assert "does not fit the observations and actions of this environment" in capsys.readouterr().err


def test_an_environment_that_draws_nothing(
    workdir: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["--allow", "tests", *CASES[DQN].arguments, "--data.env_id=tests.environments:Bandit-v0", *QUICK]
    made = main(["fit", *words])
    assert "draws no pictures" in caplog.text
    main(["play", str(made.run_folder), "--episodes", "2", "--allow", "tests"])
    assert "no film: environment tests.environments:Bandit-v0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["play", str(made.run_folder), "--video", "a.gif", "--allow", "tests"])
    assert "it draws no pictures" in capsys.readouterr().err
