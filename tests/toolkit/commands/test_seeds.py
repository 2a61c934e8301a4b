import numpy as np
import pytest
from scipy import stats

from cli import main
from toolkit.commands.seeds import bootstrap_interval, interquartile_mean, summarize


@pytest.mark.parametrize("n", [4, 8, 20])
def test_iqm_matches_the_trimmed_mean(n: int) -> None:
    """Where a quarter of the values is a whole number, the IQM is scipy's 25 % trimmed mean."""
    values = np.random.default_rng(n).normal(size=n)
    assert interquartile_mean(list(values)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_iqm_weighs_the_edges_for_five_seeds() -> None:
    """n=5: 1.25 samples off each end, so the second and fourth count 0.75."""
    assert interquartile_mean([0, 1, 2, 3, 100]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 3) / 2.5)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(list(draw.normal(size=20)), interquartile_mean, resamples=300)
        covered += low <= 0 <= high
    assert 85 <= covered <= 100


def test_summary_keeps_the_numbers_that_all_runs_share() -> None:
    table = summarize([{"acc": 0.5, "name": "a", "x": 1}, {"acc": 0.7, "name": "b"}])
    assert list(table) == ["acc"]
    assert table["acc"]["median"] == pytest.approx(0.6)


@pytest.mark.parametrize("args", [["--n", "two"], ["--n", "0"], []])
def test_bad_options_end_with_one_message(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["seeds", *args])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: seeds")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--into=runs/a/b"], "--into names one run folder for all seeds"),
        (["--into", "runs/a/b"], "--into names one run folder for all seeds"),
        (["--ckpt_path=last"], "--ckpt_path last goes on with one run"),
        (["--ckpt_path", "last"], "--ckpt_path last goes on with one run"),
    ],
)
def test_seeds_that_would_be_one_run_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["seeds", "--config", "configs/vision/classification_digits.yaml", *words])
    assert message in capsys.readouterr().err
