"""Learning curves of the measured agents, from the stored results: median over the seeds, and each seed.

    python benchmarks/learning_curves.py

Draws docs/images/<claim>.png for each result in benchmarks/results/ that has curves.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]


def draw(result: dict[str, Any], file: Path) -> None:
    """Validation's mean return over environment steps; dashed what a random policy gets."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    curves = result["curves"]
    steps = [count / 1000 for count in curves[0]["env_steps"]]
    for curve in curves:
        axes.plot(steps, curve["val/return_mean"], color="tab:blue", alpha=0.3, linewidth=1)
    together = zip(*(curve["val/return_mean"] for curve in curves), strict=True)
    axes.plot(steps, [statistics.median(values) for values in together], color="tab:blue")
    naive = [row["median"] for name, row in result["statistics"].items() if name.startswith("baseline/")]
    for value in naive[:1]:
        axes.axhline(value, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="environment steps, thousands", ylabel="mean return, greedy")
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    for stored in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        content = json.loads(stored.read_text())
        if "curves" in content:
            draw(content, ROOT / "docs" / "images" / f"{stored.stem}.png")
            print(ROOT / "docs" / "images" / f"{stored.stem}.png")
