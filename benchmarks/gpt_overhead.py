"""A GPT on tinyshakespeare by the command line against a bare loop of the same recipe: validation loss and speed.

    python benchmarks/gpt_overhead.py --path input.txt [--steps 2000] [--seeds 3] [--precision P] [--json FILE]

The loop is written as nanoGPT's is (Karpathy, 2022): eager, float32, the same model, batch and schedule as
configs/language/gpt_tinyshakespeare.yaml, blocks at random places; `--precision 32-true` compares in its own. Both
are scored on the whole last tenth of the text, in blocks of 64, and take turns on one thread. Speed is tokens per
CPU-second of the training steps after the first ones.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.in_turns import WARMUP
from cli import main as cli

CONFIG = "configs/language/gpt_tinyshakespeare.yaml"
BLOCK, BATCH, DIM, DEPTH, HEADS = 64, 12, 128, 4, 4
LEARNING_RATE, LEAST, RISE = 1e-3, 1e-4, 100


class StepClock(Callback):
    """CPU time from the end of the warm-up to the last training step; validation comes after it."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Note the time."""
        if trainer.global_step == WARMUP:
            self.start = time.process_time()
        self.last, self.steps = time.process_time(), trainer.global_step - WARMUP


class Block(nn.Module):
    """Attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(DIM, bias=False), nn.LayerNorm(DIM, bias=False)
        self.c_attn = nn.Linear(DIM, 3 * DIM, bias=False)
        self.attn_proj = nn.Linear(DIM, DIM, bias=False)
        self.c_fc = nn.Linear(DIM, 4 * DIM, bias=False)
        self.gelu = nn.GELU()
        self.mlp_proj = nn.Linear(4 * DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(B, T, C)`` to tokens."""
        rows, length, _ = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(DIM, dim=2)
        q, k, v = (part.view(rows, length, HEADS, DIM // HEADS).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).contiguous().view(rows, length, DIM))
        return x + self.mlp_proj(self.gelu(self.c_fc(self.ln_2(x))))


class Reference(nn.Module):
    """The model of the loop."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, DIM), nn.Embedding(BLOCK, DIM)
        self.h = nn.ModuleList(Block() for _ in range(DEPTH))
        self.ln_f = nn.LayerNorm(DIM, bias=False)
        self.lm_head = nn.Linear(DIM, vocabulary, bias=False)
        self.wte.weight = self.lm_head.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 / math.sqrt(2 * DEPTH) if name.endswith("proj.weight") else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, token: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        x = self.wte(token) + self.wpe(torch.arange(token.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), target.view(-1))


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine."""
    if step < RISE:
        return LEARNING_RATE * (step + 1) / (RISE + 1)
    share = (step - RISE) / (steps - RISE)
    return LEAST + 0.5 * (1 + math.cos(math.pi * share)) * (LEARNING_RATE - LEAST)


def bare(path: Path, steps: int, seed: int) -> dict[str, float]:
    """The loop."""
    text = path.read_text(encoding="utf-8")
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    data = np.array([number[character] for character in text], dtype=np.uint16)
    train, val = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
    torch.manual_seed(seed)
    model = Reference(len(characters))
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99))

    def batch() -> tuple[Tensor, Tensor]:
        places = torch.randint(len(train) - BLOCK, (BATCH,))
        x = torch.stack([torch.from_numpy(train[i : i + BLOCK].astype(np.int64)) for i in places])
        y = torch.stack([torch.from_numpy(train[i + 1 : i + 1 + BLOCK].astype(np.int64)) for i in places])
        return x, y

    x, y = batch()
    for step in range(steps):
        if step == WARMUP:
            start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = model(x, y)
        x, y = batch()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    seconds = time.process_time() - start
    return {"val_loss": _score(model, val), "tokens_per_cpu_second": (steps - WARMUP) * BLOCK * BATCH / seconds}


@torch.no_grad()
def _score(model: Reference, val: np.ndarray) -> float:
    """Mean loss over every character of the split but the first."""
    tokens = torch.from_numpy(val.astype(np.int64))
    whole = (len(tokens) - 1) // BLOCK * BLOCK
    x, y = tokens[:whole].view(-1, BLOCK), tokens[1 : whole + 1].view(-1, BLOCK)
    parts = [(x[i : i + 100], y[i : i + 100]) for i in range(0, len(x), 100)]
    parts.append((tokens[None, whole:-1], tokens[None, whole + 1 :]))
    nats = sum(float(model(a, b)) * b.numel() for a, b in parts if b.numel())
    return nats / (len(tokens) - 1)


def ours(path: Path, steps: int, seed: int, precision: str | None = None) -> dict[str, float]:
    """`fit` with everything that is on by default."""
    with tempfile.TemporaryDirectory() as runs:
        made = cli(
            [
                *("fit", "--config", CONFIG, f"--data.path={path}", f"--runs={runs}", f"--seed_everything={seed}"),
                *(f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}", "--trainer.accelerator=cpu"),
                "--trainer.callbacks=benchmarks.gpt_overhead.StepClock",
                *([f"--trainer.precision={precision}"] if precision else []),
            ]
        )
    # by its name: `cli` imports this script once more
    clock: Any = next(c for c in made.trainer.callbacks if type(c).__name__ == "StepClock")
    speed = clock.steps * BLOCK * BATCH / (clock.last - clock.start)
    return {"val_loss": float(made.trainer.callback_metrics["val/loss"]), "tokens_per_cpu_second": speed}


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True, help="the text of tinyshakespeare")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", help="of the command line's side; the config's if it is not given")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        sides = {"ours": partial(ours, precision=options.precision), "bare": bare}
        for name in sorted(sides, reverse=seed % 2 == 1):  # whichever goes first has it no better
            for key, value in sides[name](options.path.resolve(), options.steps, seed).items():
                found.setdefault(f"{name}/{key}", []).append(value)
    speeds = zip(found["ours/tokens_per_cpu_second"], found["bare/tokens_per_cpu_second"], strict=True)
    found["speed_ratio"] = [a / b for a, b in speeds]
    spread = {k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in found.items()}
    gap = statistics.mean(found["ours/val_loss"]) - statistics.mean(found["bare/val_loss"])
    values = {"loss_gap": gap, **{name: value["median"] for name, value in spread.items()}}
    print("  ".join(f"{name} {value:.5g}" for name, value in values.items()))
    if options.json:
        options.json.write_text(json.dumps({**values, "statistics": spread}))


if __name__ == "__main__":
    main()
