"""Figures are written by the runner: the pages are what it makes of the stored results."""

import json

from benchmarks.run import PAGE, README, RESULTS, load_claims, render, render_configs, render_readme
from tests.conftest import ROOT


def test_pages_are_generated() -> None:
    assert PAGE.read_text() == render()
    assert README.read_text() == render_readme()
    for path, text in render_configs().items():
        assert path.read_text() == text


def test_every_result_belongs_to_a_claim_and_names_its_origin() -> None:
    claims = {claim["name"]: claim for claim in load_claims()}
    for file in RESULTS.glob("*.json"):
        result = json.loads(file.read_text())
        assert file.stem in claims
        assert claims[file.stem]["metric"] in result["statistics"]
        assert all(result[key] for key in ("command", "commit", "date", "machine", "versions"))
        assert len(result["seeds"]) == claims[file.stem].get("seeds", 0)


def test_every_claim_names_a_config_or_script_that_exists() -> None:
    for claim in load_claims():
        assert (ROOT / claim.get("config", claim.get("script", "missing"))).is_file()
        assert set(claim["bar"]) <= {"min", "max"}
