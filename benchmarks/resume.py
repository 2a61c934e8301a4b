"""Exact resume and faults: real processes killed, told or broken at random places, resumed, and compared bit for bit.

    python benchmarks/resume.py [--json FILE]

Runs all of tests/test_resume.py (24 random places over {1, 2} ranks x {0, 2} workers x accumulation {1, 4}; signals to
one rank or all at five points of a step; lost ranks; other numbers of ranks; every task), of tests/test_faults.py (full
disk, permissions, damaged files, hanging ranks, W&B gone) and tests/callbacks/test_out_of_memory.py.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("tests/test_resume.py", "tests/test_faults.py", "tests/callbacks/test_out_of_memory.py")


def main() -> None:
    """Run, count, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", *FILES]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    counts = {kind: int(found[1]) if (found := re.search(rf"(\d+) {kind}", done.stdout)) else 0
              for kind in ("passed", "failed", "error")}  # fmt: skip
    assert sum(counts.values()), done.stdout
    print("  ".join(f"{kind} {count}" for kind, count in counts.items()))
    if options.json:
        options.json.write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
