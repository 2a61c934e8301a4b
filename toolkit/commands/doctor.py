"""The verb `doctor`: what this machine, or this job's ranks, can do, and what is misconfigured."""

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from packaging.requirements import Requirement

from toolkit.commands.index import ROOT
from toolkit.errors import UserError

PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "jsonargparse", "wandb")
DISTRIBUTION = "fulgurite"
MEGABYTES = 64
SECONDS = 60
"""How long the ranks wait for each other."""
STARTERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
"""Environment variables of torchrun and of srun: rank, number of ranks, rank within the node."""


def doctor(args: Sequence[str]) -> bool:
    """Print devices, versions, disk and reachability, and what is misconfigured.

    Args:
        args: ``--ranks N`` starts N processes here; under srun and torchrun those that are there are asked.
            ``--runs FOLDER`` is where the disk is looked at.

    Returns:
        Whether nothing is misconfigured, and all ranks reach each other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--runs", default="runs")
    try:
        options = parser.parse_args(args)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"doctor: {error}; options are --ranks N and --runs FOLDER.") from error
    if options.ranks < 1:
        raise UserError(f"--ranks: need a positive number, got {options.ranks}.")
    rank, ranks, local_rank = place(os.environ)
    if options.ranks > 1 and ranks == 1:
        return _with_ranks(options.ranks, options.runs)
    if rank == 0:
        for name, value in _facts(options.runs):
            print(f"{name:<10}  {value}", flush=True)
    reached = ranks == 1 or _all_reduce(rank, ranks, local_rank)
    if rank:
        return reached
    wrong = list(misconfigured(os.environ, ranks, Path(options.runs), shared_memory()))
    print("\n".join(f"{'mend':<10}  {line}" for line in wrong) or f"{'mend':<10}  nothing", flush=True)
    return reached and not wrong


def place(environ: Mapping[str, str]) -> tuple[int, int, int]:
    """(rank, number of ranks, rank within the node), as torchrun or srun says.

    >>> place({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"})
    (3, 4, 1)
    >>> place({"SLURM_NTASKS": "4"})  # in a shell of Slurm's, not started by srun
    (0, 1, 0)
    """
    for names in STARTERS:
        if all(name in environ for name in names):
            rank, ranks, local_rank = (int(environ[name]) for name in names)
            return rank, ranks, local_rank
    return 0, 1, 0


def misconfigured(
    environ: Mapping[str, str],
    ranks: int,
    runs: Path,
    shared_bytes: int | None,
    versions: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """What should be changed, a line each, with what to do.

    Args:
        environ: Environment variables.
        ranks: Number of processes.
        runs: Folder of all runs.
        shared_bytes: Size of /dev/shm; None where there is none.
        versions: Of packages, instead of the installed ones.
    """
    if ranks > 1 and "OMP_NUM_THREADS" not in environ:
        yield "OMP_NUM_THREADS is not set: every rank takes all cores; export OMP_NUM_THREADS=CORES_PER_RANK"
    if shared_bytes is not None and shared_bytes < 2**30:
        yield f"/dev/shm has {shared_bytes / 2**20:.0f} MiB, little for loader workers; docker run --shm-size=8g"
    mode = environ.get("WANDB_MODE", "online")
    if mode == "online" and "WANDB_API_KEY" not in environ and not (Path.home() / ".netrc").is_file():
        yield "no W&B login: runs are logged offline; wandb login, or export WANDB_MODE=offline to mean it"
    folder = next(parent for parent in (runs.absolute(), *runs.absolute().parents) if parent.exists())
    if not os.access(folder, os.W_OK):
        yield f"{folder} cannot be written; name another with --runs"
    elif shutil.disk_usage(folder).free < 5 * 2**30:
        yield f"{folder} has less than 5 GiB free; checkpoints need more"
    if torch.version.cuda and not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        yield f"the driver does not run CUDA {torch.version.cuda}, which torch was built for; update one of them"
    for requirement in requirements():
        version = (versions or {}).get(requirement.name) or importlib.metadata.version(requirement.name)
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is not {requirement.specifier}; pip install -e . again"


def requirements() -> list[Requirement]:
    """What the package itself asks for, without its extras; nothing where it is not installed."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = map(Requirement, lines)
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def shared_memory() -> int | None:
    """Bytes of /dev/shm, through which loader workers hand their batches over."""
    return shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None


def _facts(runs: str) -> Iterator[tuple[str, str]]:
    yield (
        "machine",
        f"{platform.node()}, {platform.platform()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs",
    )
    yield "versions", ", ".join([f"python {platform.python_version()}", *(f"{k} {v}" for k, v in _versions().items())])
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        yield f"gpu {number}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        yield "gpu", f"none that torch {torch.__version__} can use"
    elif topology := _output("nvidia-smi", "topo", "-m"):
        yield "topology", "\n" + topology
    folder = next(parent for parent in (Path(runs).absolute(), *Path(runs).absolute().parents) if parent.exists())
    yield "disk", f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB free for {Path(runs).absolute()}"
    if (size := shared_memory()) is not None:
        yield "/dev/shm", f"{size / 2**30:.1f} GiB"


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def _all_reduce(rank: int, ranks: int, local_rank: int) -> bool:
    """Sum a tensor over the ranks, look at the sum, and print the bandwidth on rank 0."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "SLURM_PROCID" in os.environ and "RANK" not in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        try:
            slurm = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:  # which a fit would end with, too
            raise UserError(f"Slurm: {error}") from error
        os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    device = torch.device("cuda", local_rank) if backend == "nccl" else torch.device("cpu")
    try:
        dist.init_process_group(backend, rank=rank, world_size=ranks, timeout=timedelta(seconds=SECONDS))
        seconds, right = _timed(lambda: torch.ones(MEGABYTES * 2**18, device=device), ranks)
    except (RuntimeError, ValueError) as error:
        print(
            f"{'ranks':<10}  rank {rank} on {platform.node()} did not reach the others at {address}: {error}",
            flush=True,
        )
        return False
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if rank == 0:
        moved = 2 * (ranks - 1) / ranks * MEGABYTES / 1024  # what a ring all-reduce sends and receives, per rank
        print(f"{'ranks':<10}  {ranks} over {backend}: {MEGABYTES} MiB summed in {seconds * 1e3:.1f} ms, "
              f"{moved / seconds:.2f} GiB/s a rank{'' if right else ', and the sum is WRONG'}", flush=True)  # fmt: skip
    return right


def _timed(make: Callable[[], torch.Tensor], ranks: int) -> tuple[float, bool]:
    best, right = float("inf"), True
    for _ in range(4):  # the first opens the connections
        tensor = make()
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(tensor)
        right = right and bool((tensor == ranks).all())  # also waits for the device
        best = min(best, time.perf_counter() - started)
    return best, right


def _with_ranks(ranks: int, runs: str) -> bool:
    """The same, asked of processes that are started here."""
    run = "torch.distributed.run"
    command = [sys.executable, "-m", run, "--standalone", f"--nproc_per_node={ranks}", str(ROOT / "cli.py"), "doctor"]
    environ = os.environ | {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.run([*command, "--runs", runs], env=environ).returncode == 0
