"""Measure the claims of claims.yaml; write docs/results.md, README's table and the heads of the configs.

    python benchmarks/run.py --data DIR [NAME ...]   measure (all claims if no name is given)
    python benchmarks/run.py --render                only write the page from the stored results

DIR holds the data sets; see docs/data.md. Everything runs on one thread, claims that say so on a GPU; where there is
none, they are left out and told. A claim that was never run reads "unmeasured". On a copy of the tree without its
history the environment variable COMMIT says which one it is.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = ROOT / "benchmarks" / "claims.yaml"
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
MEASURED = "# Measured: "
BEGIN, END = "<!-- written by benchmarks/run.py -->\n", "<!-- until here -->"
HEADER = """# Results

Written by `python benchmarks/run.py --data DIR`, never by hand. Each row names a claim, what was measured (the median
over seeds, or their mean where the claim says so, with minimum and maximum), the bar it is held to, and the naive
baseline. Everything runs on one CPU thread unless a row says otherwise. A claim without a run reads *unmeasured*.

| claim | measured | bar | naive baseline | published or measured elsewhere | cost, median |
|---|---|---|---|---|---|
"""


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def load_claims() -> list[dict[str, Any]]:
    """The claims, in the order of the file."""
    claims: list[dict[str, Any]] = yaml.safe_load(CLAIMS.read_text())
    return claims


def environment(hardware: str = "cpu") -> dict[str, str]:
    """Commit, versions and machine of a measurement."""
    import lightning
    import torch
    import torchvision

    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain", "-uno"], capture_output=True, text=True)
    return {
        "commit": os.environ.get("COMMIT") or commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, 1 thread" if hardware == "cpu" else torch.cuda.get_device_name(),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, lightning {lightning.__version__}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def measure(claim: dict[str, Any], data: str | None) -> dict[str, Any]:
    """Run one claim; its statistics with the environment."""
    words = [word.replace("{data}", data or "") for word in claim.get("args", [])]
    if any("{data}" in word for word in claim.get("args", [])) and data is None:
        raise SystemExit(f"{claim['name']}: give the folder of the data sets with --data DIR")
    run = _measure_script if "script" in claim else _measure_config
    result = run(claim, words)
    if data is not None:
        result["command"] = result["command"].replace(data, "DIR")  # whose folder it was is of no use to others
    return result | environment(hardware(claim))


def hardware(claim: dict[str, Any]) -> str:
    """On what a claim is measured: cpu or gpu."""
    return str(claim.get("hardware", "cpu"))


def _measure_config(claim: dict[str, Any], words: list[str]) -> dict[str, Any]:
    command = ["cli.py", "seeds", "--config", claim["config"], "--n", str(claim["seeds"]), *words]
    with tempfile.TemporaryDirectory() as runs:
        tests = "true" if claim["metric"].startswith("test/") else "false"  # some sets have no test split
        output = _call([*command, "--runs", runs, "--test_after_fit", tests])
        print(output)
        file = re.search(r"^written to (.+)$", output, re.MULTILINE)
        assert file is not None, output
        found = json.loads(Path(file[1]).read_text())
    return {"command": "python " + " ".join(command), "seeds": found["seeds"], "statistics": found["statistics"]}


def _measure_script(claim: dict[str, Any], words: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        print(_call([claim["script"], "--json", str(file), *words]))  # words may end with another program's
        values = json.loads(file.read_text())
    numbers = {key: value for key, value in values.items() if isinstance(value, (int, float))}
    statistics = {key: {"median": v, "min": v, "max": v} for key, v in numbers.items()} | values.get("statistics", {})
    seeds = list(range(claim.get("seeds", 0)))
    result = {"command": " ".join(["python", claim["script"], *words]), "seeds": seeds, "statistics": statistics}
    return result | ({"curves": values["curves"]} if "curves" in values else {})


def _call(words: list[str]) -> str:
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {done.returncode}")
    return done.stdout


def render() -> str:
    """The page, from claims and stored results."""
    rows, details = [], []
    for claim in load_claims():
        file = RESULTS / f"{claim['name']}.json"
        result = json.loads(file.read_text()) if file.exists() else None
        rows.append(_row(claim, result))
        if result:
            details.append(_detail(claim, result))
    return HEADER + "\n".join(rows) + "\n\n## How each was measured\n\n" + "\n".join(details)


def _row(claim: dict[str, Any], result: dict[str, Any] | None) -> str:
    bar = ", ".join(
        [f"{'>=' if side == 'min' else '<='} {value}" for side, value in claim["bar"].items()]
        + [f"{name} <= {value}" for name, value in claim.get("limits", {}).items()]
    )
    published = claim.get("published", "")
    if result is None:
        return f"| {claim['title']} | *unmeasured* | {bar} | | {published} | |"
    statistics = result["statistics"]
    metric = statistics[claim["metric"]]
    measured = f"{claim['metric']} {_middle(claim, result):.4g} [{metric['min']:.4g}, {metric['max']:.4g}]"
    if not passes(claim, result):
        measured = f"**missed:** {measured}"
    naive = statistics.get(f"baseline/{claim['metric']}", {}).get("median", claim.get("baseline", ""))
    cost = ", ".join(
        f"{statistics[key]['median']:.0f} {unit}"
        for key, unit in (_cost(claim), ("parameters", "parameters"))
        if key in statistics
    )
    naive = f"{naive:.4g}" if isinstance(naive, float) else naive
    published = published or "; ".join(
        f"{label} {row['median']:.4g} [{row['min']:.4g}, {row['max']:.4g}], interquartile mean between "
        f"{row['iqm_low']:.4g} and {row['iqm_high']:.4g}"
        for label, row in ((label, statistics[name]) for label, name in claim.get("beside", {}).items())
    )
    return f"| {claim['title']} | {measured} | {bar} | {naive} | {published} | {cost} |"


def _middle(claim: dict[str, Any], result: dict[str, Any]) -> float:
    """Of the metric, over the seeds: the median, or what else the claim says."""
    middle: float = result["statistics"][claim["metric"]][claim.get("statistic", "median")]
    return middle


def render_readme() -> str:
    """README with its table of families, from claims and stored results."""
    text = README.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    rows = ["| family | what | measured | naive baseline | command |", "|---|---|---|---|---|"]
    for claim in load_claims():
        file = RESULTS / f"{claim['name']}.json"
        if "family" in claim and file.exists():
            rows.append(_readme_row(claim, json.loads(file.read_text())))
    return before + "\n".join(rows) + "\n" + after


def _readme_row(claim: dict[str, Any], result: dict[str, Any]) -> str:
    statistics = result["statistics"]
    measured = f"{claim['metric']} {_middle(claim, result):.4f}"
    naive = statistics.get(f"baseline/{claim['metric']}", {}).get("median", claim.get("baseline", ""))
    naive = f"{naive:.4f}" if isinstance(naive, float) else naive
    page = f"[{claim['family']}](docs/methods/{claim['family'].replace(' ', '_')}.md)"
    words = ["python cli.py fit --config", claim["config"]]
    own = [word.replace("{data}", "DIR") for word in claim.get("args", [])]
    own = ["--data.root DIR"] if "script" in claim else [f'"{word}"' if "[" in word else word for word in own]
    words += [claim["usage"]] if "usage" in claim else own
    return f"| {page} | {claim['title']} | {measured} | {naive} | `{' '.join(words).strip()}` |"


def render_configs() -> dict[Path, str]:
    """The measured configs with what was measured in their heads, by file."""
    texts = {}
    for claim in load_claims():
        file = RESULTS / f"{claim['name']}.json"
        if "config" in claim and file.exists():
            path = ROOT / claim["config"]
            lines = [line for line in path.read_text().splitlines() if not line.startswith(MEASURED)]
            lines.insert(2, MEASURED + _measured_line(claim, json.loads(file.read_text())))
            texts[path] = "\n".join(lines) + "\n"
    return texts


def _measured_line(claim: dict[str, Any], result: dict[str, Any]) -> str:
    name, unit = _cost(claim)
    metric, cost = result["statistics"][claim["metric"]], result["statistics"][name]
    return (
        f"{claim['metric']} {_middle(claim, result):.4f} [{metric['min']:.4f}, {metric['max']:.4f}], {claim['seeds']} "
        f"seeds, {cost['median']:.0f} {unit}, {result['machine']}"
    )


def _cost(claim: dict[str, Any]) -> tuple[str, str]:
    """What of the statistics a claim costs, and in which unit: on a GPU, time by the clock."""
    default, unit = ("train_cpu_seconds", "CPU-s") if hardware(claim) == "cpu" else ("train_wall_seconds", "s")
    return claim.get("cost", default), unit


def passes(claim: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether the median, or what else the claim says, meets the bar, and the medians meet the limits."""
    value = _middle(claim, result)
    within = claim["bar"].get("min", value) <= value <= claim["bar"].get("max", value)
    limits = claim.get("limits", {}).items()
    return within and all(result["statistics"][name]["median"] <= limit for name, limit in limits)


def _detail(claim: dict[str, Any], result: dict[str, Any]) -> str:
    seeds = f"seeds {', '.join(map(str, result['seeds']))}; " if result["seeds"] else ""
    where = f"commit {result['commit']}, {result['date']}; {result['machine']}; {result['versions']}"
    note = f"; {result['note']}" if "note" in result else ""  # what else was so that day
    return f"- **{claim['title']}**: `{result['command']}`; {seeds}{where}{note}."


def main() -> None:
    """Measure, store, render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    claims = {claim["name"]: claim for claim in load_claims()}
    if unknown := set(options.names) - set(claims):
        parser.error(f"unknown claims {sorted(unknown)}; choose from {sorted(claims)}")
    if not options.render:
        data = str(Path(options.data).resolve()) if options.data else None
        made: dict[str, dict[str, Any]] = {}  # claims of one script share its run
        for name in options.names or claims:
            if hardware(claims[name]) == "gpu" and not _has_gpu():
                print(f"{name}: left out, it is measured on a GPU and there is none")
                continue
            RESULTS.mkdir(exist_ok=True)
            run = str([claims[name].get("script", name), claims[name].get("args")])
            result = made[run] = made.get(run) or measure(claims[name], data)
            (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    PAGE.write_text(render())
    README.write_text(render_readme())
    for path, text in render_configs().items():
        path.write_text(text)
    print(f"written to {PAGE} and {README}")


if __name__ == "__main__":
    main()
