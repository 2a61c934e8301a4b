import pytest

from datamodules.annotation_findings import Finding, Findings
from toolkit.errors import UserError


@pytest.mark.parametrize(
    ("corners", "finding"),
    [
        ((1, 2, 1, 5), Finding.DEGENERATE),
        ((1, 5, 4, 5), Finding.DEGENERATE),
        ((4, 2, 1, 5), Finding.DEGENERATE),
        ((-5, 2, 0, 5), Finding.OUTSIDE),
        ((20, 2, 25, 5), Finding.OUTSIDE),
        ((1, 10, 4, 15), Finding.OUTSIDE),
        ((19.9999999, 2, 25, 5), Finding.OUTSIDE),  # 20 in float32
        ((15, 2, 15.0000001, 5), Finding.DEGENERATE),
        ((1, 2, 3), Finding.MALFORMED),
        ((1, 2, float("nan"), 4), Finding.MALFORMED),
        ((1, 2, None, 4), Finding.MALFORMED),
    ],
)
def test_what_cannot_be_used_is_noted(corners: tuple[float, ...], finding: Finding) -> None:
    findings = Findings("a.json")
    assert findings.box(corners, (10, 20), "a.jpg") is None
    assert list(findings.of) == [finding]


def test_boxes_that_reach_beyond_are_clipped_and_told_unless_it_is_rounding() -> None:
    findings = Findings("a.json")
    assert findings.box((0.5, 1.0, 20.0, 10.0), (10, 20), "a.jpg") == (0.5, 1.0, 20.0, 10.0)
    assert findings.box((-1.0, 1.0, 20.4, 10.9), (10, 20), "a.jpg") == (0.0, 1.0, 20.0, 10.0)
    assert not findings.of
    assert findings.box((-3.0, 1.0, 9.0, 9.0), (10, 20), "b.jpg") == (0.0, 1.0, 9.0, 9.0)
    assert findings.lines() == ["a.json: boxes that reach beyond their image: 1 clipped (b.jpg [-3, 1, 9, 9])"]


def test_a_line_a_kind_with_the_number_and_the_first_names() -> None:
    findings = Findings("a.json")
    for number in range(5):
        findings.add(Finding.MISSING, f"{number}.jpg")
    line = "a.json: images whose file is missing: 5 dropped (0.jpg, 1.jpg, 2.jpg, ...)"
    with pytest.warns(UserWarning, match="^data: a.json: images whose file is missing: 5 dropped"):
        findings.tell("drop")
    with pytest.raises(UserError) as caught:
        findings.tell("stop")
    assert str(caught.value).startswith(f"data: {line}")
    assert "on_invalid: drop" in str(caught.value)
    Findings("b.json").tell("stop")  # nothing to tell
