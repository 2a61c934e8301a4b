"""PPO's decisions and statistics on two ranks: alike, and of both."""

from pathlib import Path

import torch

from tests.test_two_ranks_agents import ledger
from toolkit.reinforcement.ppo import PPO


def test_kl_stop_and_statistics_are_alike(tmp_path: Path) -> None:
    found = ledger(
        PPO, tmp_path, "--model.init_args.target_kl=1e-7", "--model.init_args.epochs=4",
        "--model.init_args.normalization={observation: true, reward: true}",
    )  # fmt: skip
    assert len(found) == 4
    assert all(ranks[0][1] == ranks[1][1] for ranks in found.values())  # bit for bit
    (path,) = tmp_path.glob("*/*/checkpoints/last.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert int(state["observations.count"]) == int(state["returns.count"]) == int(state["env_steps"]) == 160
    assert 4 <= int(state["grad_updates"]) < 4 * 4 * 2, "it stopped early, and not at once"
