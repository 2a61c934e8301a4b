"""Exact resume: real processes killed at random places, and resumed, and compared bit for bit.

    python benchmarks/resume.py [--json FILE]

Runs all of tests/test_resume.py: 24 random places over {1, 2} ranks x {0, 2} workers x accumulation {1, 4}, and the
signals, lost ranks and other numbers of ranks beside them.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run, count, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "tests/test_resume.py"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    counts = {kind: int(found[1]) if (found := re.search(rf"(\d+) {kind}", done.stdout)) else 0
              for kind in ("passed", "failed", "error")}  # fmt: skip
    assert sum(counts.values()), done.stdout
    print("  ".join(f"{kind} {count}" for kind, count in counts.items()))
    if options.json:
        options.json.write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
