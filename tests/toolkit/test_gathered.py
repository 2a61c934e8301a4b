"""Two processes with half a batch each get the gradient of one process with the whole batch."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import Tensor, multiprocessing

from toolkit.gathered import gathered
from toolkit.losses.nt_xent import nt_xent_loss
from toolkit.losses.vicreg import vicreg_terms
from toolkit.nn.mlp import MLP
from toolkit.selfsupervised.simclr import SimCLR

FIRST = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
SECOND = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    terms = vicreg_terms(first, second)
    return 25 * terms.invariance + 25 * terms.variance + terms.covariance


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"nt_xent": nt_xent_loss, "vicreg": vicreg}
SHARES = {"even": (6, 6), "uneven": (9, 3)}


def rank_gradient(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0",
                   "WORLD_SIZE": "2", "RANK": str(rank)}  # fmt: skip
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    task = SimCLR(MLP(num_classes=2, in_channels=1, image_size=(2, 2), hidden=(4,)), batch_norm=False)
    task.trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False, barebones=True
    )
    for name, loss_of in LOSSES.items():
        for kind, shares in SHARES.items():
            weight = torch.eye(5, dtype=torch.float64, requires_grad=True)
            first, second = (all_.split(shares)[rank] @ weight for all_ in (FIRST, SECOND))
            loss = loss_of(gathered(task, first), gathered(task, second))
            loss.backward()
            assert weight.grad is not None
            torch.distributed.all_reduce(weight.grad)
            if rank == 0:
                # as DDP: the mean over ranks
                torch.save({"loss": loss.detach(), "gradient": weight.grad / 2}, f"{folder}/{name}-{kind}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_with_half_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(rank_gradient, (port, str(tmp_path)), nprocs=2)
    for name, loss_of in LOSSES.items():
        weight = torch.eye(5, dtype=torch.float64, requires_grad=True)
        whole = loss_of(FIRST @ weight, SECOND @ weight)
        whole.backward()
        for kind in SHARES:
            found = torch.load(tmp_path / f"{name}-{kind}.pt", weights_only=True)
            torch.testing.assert_close(found["loss"], whole.detach(), rtol=1e-12, atol=0)
            torch.testing.assert_close(found["gradient"], weight.grad, rtol=1e-10, atol=1e-12)


def test_without_a_trainer_nothing_is_gathered() -> None:
    task = SimCLR(MLP(num_classes=2, in_channels=1, image_size=(2, 2)))
    assert gathered(task, FIRST) is FIRST
