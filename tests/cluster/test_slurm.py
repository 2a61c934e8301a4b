"""The script that starts a throwaway Slurm cluster, where Slurm is installed."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("sbatch") is None, reason="Slurm is not installed (Debian: slurm-wlm munge)")
def test_slurm() -> None:
    done = subprocess.run(
        [ROOT / "tests" / "cluster" / "run_slurm.sh", sys.executable], capture_output=True, text=True, timeout=840
    )
    assert done.returncode == 0, done.stdout + done.stderr
