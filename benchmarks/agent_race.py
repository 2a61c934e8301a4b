"""Environment steps a second, and returns, of agents here and in Stable-Baselines3 with the same hyperparameters.

    python benchmarks/agent_race.py dqn|ppo|sac [--seeds 5] [--json FILE]

Needs the extra [bench]. One thread; the two sides train in turns, a seed each time, each in a process of its own, timed
by its CPU seconds from the first environment step to the last, without evaluation. Ours runs with everything
that `fit` does by default: checkpoints, metrics.csv, W&B (offline), the progress lines (the guard of gradients looks at
no agent's). Then each plays the same 100 episodes greedily. The networks, batches, numbers of gradient steps and
environments are equal; the settings are those of Stable-Baselines3's zoo (SAC: its defaults).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.agent_returns import spread
from cli import main
from toolkit.commands.seeds import bootstrap_interval, interquartile_mean

ROOT = Path(__file__).resolve().parents[1]
EPISODES, FIRST_SEED = 100, 2_000_000


@dataclass(frozen=True)
class Race:
    """One algorithm on one environment, in the words of both sides."""

    env_id: str
    steps: int
    envs: int
    theirs: Callable[[Any, int], Any]
    ours: str
    """The config."""


def linear(first: float) -> Callable[[float], float]:
    """To zero at the end of the run, as Stable-Baselines3 wants it said."""
    return lambda left: first * left


def theirs_dqn(environments: Any, seed: int) -> Any:
    """The zoo's DQN on CartPole."""
    return DQN(
        "MlpPolicy", environments, learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1000,
        gamma=0.99, target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=0.16,
        exploration_final_eps=0.04, policy_kwargs={"net_arch": [256, 256]}, seed=seed, device="cpu",
    )  # fmt: skip


def theirs_ppo(environments: Any, seed: int) -> Any:
    """The zoo's PPO on CartPole."""
    return PPO(
        "MlpPolicy", environments, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
        learning_rate=linear(0.001), clip_range=linear(0.2), seed=seed, device="cpu",
    )  # fmt: skip


def theirs_sac(environments: Any, seed: int) -> Any:
    """The defaults of SAC."""
    return SAC("MlpPolicy", environments, seed=seed, device="cpu")


RACES = {
    "dqn": Race("CartPole-v1", 50_000, 1, theirs_dqn, "benchmarks/race/dqn_cartpole.yaml"),
    "ppo": Race("CartPole-v1", 100_000, 8, theirs_ppo, "configs/reinforcement/ppo_cartpole.yaml"),
    "sac": Race("Pendulum-v1", 10_000, 1, theirs_sac, "benchmarks/race/sac_pendulum.yaml"),
}


class Clock(BaseCallback):
    """CPU seconds of a training, without its set-up."""

    def _on_training_start(self) -> None:
        self.began = time.process_time()

    def _on_training_end(self) -> None:
        self.seconds = time.process_time() - self.began

    def _on_step(self) -> bool:
        return True


def train_theirs(race: Race, seed: int) -> tuple[float, float]:
    """(environment steps a CPU second, mean return)."""
    agent = race.theirs(make_vec_env(race.env_id, race.envs, seed=seed), seed)
    clock = Clock()
    agent.learn(race.steps, callback=clock)
    environment = gymnasium.make(race.env_id)
    returns = []
    for number in range(EPISODES):
        observation, _ = environment.reset(seed=FIRST_SEED + number)
        total, over = 0.0, False
        while not over:
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = environment.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return agent.num_timesteps / clock.seconds, float(np.mean(returns))


def train_ours(race: Race, seed: int, runs: str) -> tuple[float, float]:
    """(environment steps a CPU second, mean return)."""
    words = ["fit", "--config", str(ROOT / race.ours), "--seed_everything", str(seed), "--runs", runs]
    made = main([*words, "--trainer.limit_val_batches", "0", "--test_after_fit", "false"])
    summary = json.loads((made.run_folder / "summary.json").read_text())
    tested = main(["test", "--ckpt_path", str(made.run_folder / "checkpoints" / "last.ckpt")])
    speed = int(made.model.env_steps) / summary["train_cpu_seconds"]
    return speed, float(tested.trainer.callback_metrics["test/return_mean"])


def in_a_process(race: str, side: str, seed: int) -> tuple[float, float]:
    """Of one side, which shares nothing with the other: not even what a library sets in the environment."""
    command = [sys.executable, __file__, race, "--side", side, "--first", str(seed)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    speed, mean_return = json.loads(done.stdout.splitlines()[-1])
    return speed, mean_return


def run() -> None:
    """Race, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("race", choices=RACES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--side", choices=("ours", "theirs"), help="run one seed of one side, and print what came")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.side == "theirs":
        print(json.dumps(train_theirs(RACES[options.race], options.first)))
        return
    if options.side == "ours":
        with tempfile.TemporaryDirectory() as runs:
            print(json.dumps(train_ours(RACES[options.race], options.first, runs)))
        return
    ours, theirs = [], []
    for seed in range(options.first, options.first + options.seeds):
        ours.append(in_a_process(options.race, "ours", seed))
        theirs.append(in_a_process(options.race, "theirs", seed))
        print(f"seed {seed}: ours {ours[-1]}, Stable-Baselines3 {theirs[-1]}", flush=True)
    table: dict[str, Any] = {"ratio": spread([mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True)])}
    for label, rows in (("ours", ours), ("stable_baselines3", theirs)):
        table[f"{label}/steps_per_cpu_second"] = spread([row[0] for row in rows])
        table[f"{label}/return_mean"] = spread([row[1] for row in rows])
        low, high = bootstrap_interval([row[1] for row in rows], interquartile_mean)
        table[f"{label}/return_mean"] |= {"iqm_low": low, "iqm_high": high}
    mine, other = table["ours/return_mean"], table["stable_baselines3/return_mean"]
    overlap = mine["iqm_low"] <= other["iqm_high"] and other["iqm_low"] <= mine["iqm_high"]
    for name, row in table.items():
        print(f"{name}: median {row['median']:.4g} [{row['min']:.4g}, {row['max']:.4g}], IQM {row['iqm']:.4g}")
    print(f"intervals of the mean returns overlap: {overlap}")
    if options.json:
        statistics_ = {name: {k: v for k, v in row.items() if k != "seeds"} for name, row in table.items()}
        options.json.write_text(json.dumps({"intervals_apart": float(not overlap), "statistics": statistics_}))


if __name__ == "__main__":
    run()
