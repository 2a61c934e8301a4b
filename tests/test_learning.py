"""Every family learns something small and real in seconds."""

import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cli import main
from datamodules.digit_scenes import DigitScenes
from tests.conftest import ACCELERATOR


def test_image_classification_learns_digits(workdir: Path) -> None:
    """Far above the majority class (10 %) after three epochs on 1,258 real images."""
    made = main(
        [
            "fit",
            "--config",
            "configs/vision/classification_digits.yaml",
            "--trainer.max_epochs=3",
            f"--trainer.accelerator={ACCELERATOR}",
            "--wandb.enabled=false",
        ]
    )
    assert float(made.trainer.callback_metrics["test/acc"]) > 0.9


def test_segmentation_learns_where_ink_is(workdir: Path) -> None:
    """Files of real digits before coloured backgrounds, ink 255 and paper 0: far above paper everywhere."""
    scenes = DigitScenes("train", (32, 32), (1, 2), (2.0, 2.5))
    for folder in ("images", "masks"):
        Path("scenes", folder).mkdir(parents=True)
    for number in range(300):
        scene = scenes(number)
        Image.fromarray(scene.image.permute(1, 2, 0).numpy()).save(f"scenes/images/{number}.png")
        Image.fromarray((scene.mask > 0).numpy().astype("uint8") * 255).save(f"scenes/masks/{number}.png")
    words = ["--config", "configs/vision/segmentation_folder.yaml", "--data.root=scenes", "--data.image_size=32"]
    words += ["--data.values=[0,255]", "--data.class_names=[paper,ink]", "--data.in_memory=true"]
    words += ["--data.num_workers=0", "--model.net.widths=[16,32]", "--model.net.stride=1", "--trainer.max_epochs=6"]
    words += ["--model.optimizer.lr=0.01", "--model.class_weights=[0.3,1]"]
    made = main(["fit", *words, f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"])
    baseline = made.model.baseline(made.datamodule, "val").metrics["miou"]
    assert baseline < 0.5
    assert float(made.trainer.callback_metrics["val/miou"]) > 0.75


def test_the_example_task_learns_parity(workdir: Path) -> None:
    made = main(
        [
            "fit",
            "--config",
            "examples/parity.yaml",
            "--trainer.max_epochs=4",
            f"--trainer.accelerator={ACCELERATOR}",
            "--wandb.enabled=false",
        ]
    )
    assert float(made.trainer.callback_metrics["val/auroc"]) > 0.95


def quick(config: str, *more: str) -> Any:
    words = ["fit", "--config", f"configs/generative/{config}.yaml", f"--trainer.accelerator={ACCELERATOR}", *more]
    return main([*words, "--wandb.enabled=false"])


def test_vae_learns_digits(workdir: Path) -> None:
    """Far above coins of each pixel's own frequency, -29.5 nats, and with a code that says something."""
    made = quick("vae_digits", "--trainer.max_epochs=20")
    metrics = made.trainer.callback_metrics
    pixel = made.datamodule.dataset("test").image.float().div(255)
    frequency = made.datamodule.dataset("train").image.float().div(255).mean(dim=0).clamp(0.001, 0.999)
    naive = (pixel * frequency.log() + (1 - pixel) * (1 - frequency).log()).flatten(1).sum(dim=1).mean()
    assert float(metrics["test/elbo"]) > float(naive) + 2
    assert float(metrics["test/kl"]) > 1


def test_gan_learns_digits(workdir: Path) -> None:
    """Its thumbnails come ten times as close to real ones as those of the untrained generator."""
    before = quick("gan_digits", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    after = quick("gan_digits", "--trainer.max_epochs=20")
    first, last = (float(made.trainer.callback_metrics["val/frechet_pixels"]) for made in (before, after))
    assert last < first / 10
    image = after.model.sample(20, seed=0)
    assert image.shape == (20, 1, 8, 8)
    torch.testing.assert_close(image[:7], after.model.sample(7, seed=0))


def test_fixmatch_learns_from_unlabelled_digits(workdir: Path) -> None:
    """With 40 labels: better than the same network with the same weak augmentation on those 40 alone."""
    words = [
        f"--trainer.accelerator={ACCELERATOR}",
        "--wandb.enabled=false",
        "--config",
        "configs/vision/fixmatch_digits.yaml",
    ]
    found = [
        main(["fit", *words, "--trainer.max_epochs=15", f"--model.unlabelled_weight={weight}"]).trainer
        for weight in (1.0, 0.0)
    ]
    both, alone = (float(trainer.callback_metrics["val/acc"]) for trainer in found)
    assert both > max(0.9, alone + 0.03)


def test_detector_finds_digits(workdir: Path) -> None:
    """Small scenes, few of them: far better than boxes of the mean size at random."""
    words = ["fit", "--config", "configs/vision/detection_digits.yaml", f"--trainer.accelerator={ACCELERATOR}"]
    size = ["--data.sizes=[400,60,60]", "--data.image_size=48", "--data.digits=[1,2]", "--data.scale=[2,3]"]
    made = main([*words, *size, "--trainer.max_epochs=6", "--wandb.enabled=false"])
    baseline = made.datamodule.baseline("val").metrics["map_50"]
    assert float(made.trainer.callback_metrics["val/map_50"]) > 0.1 > 20 * baseline


def test_autoencoder_tells_an_unseen_digit(workdir: Path) -> None:
    """Area under the curve of a 3 against all others: above that of the distance to the mean 3."""
    words = [f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"]
    made = main(["fit", "--config", "configs/selfsupervised/anomaly_digits.yaml", *words])
    baseline = made.model.baseline(made.datamodule, "val").metrics["auroc"]
    assert float(made.trainer.callback_metrics["val/auroc"]) > max(0.9, baseline)


def test_simclr_learns_without_labels(workdir: Path) -> None:
    """Neighbours by its features are better by five points than by those of the untrained network, and than 90 %."""
    words = ["fit", "--config", "configs/selfsupervised/simclr_digits.yaml", f"--trainer.accelerator={ACCELERATOR}"]
    words.append("--wandb.enabled=false")
    found = [
        float(main([*words, *more]).trainer.callback_metrics["val/knn_acc"])
        for more in (["--trainer.max_epochs=20"], ["--trainer.max_epochs=1", "--model.optimizer.lr=1e-9"])
    ]
    assert found[0] > max(0.9, found[1] + 0.05)


def test_gpt_learns_python_s_manual(workdir: Path) -> None:
    """In one epoch, by more than a nat a token better than the frequencies of tokens."""
    words = [f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false", "--trainer.max_epochs=1"]
    made = main(["fit", "--config", "configs/language/gpt_topics.yaml", *words])
    baseline = made.datamodule.baseline("val").metrics
    metrics = made.trainer.callback_metrics
    assert float(metrics["val/loss"]) < baseline["loss"] - 1.2
    assert float(metrics["val/bits_per_byte"]) < baseline["bits_per_byte"] - 0.8


def test_text_classification_learns_where_docstrings_stand(workdir: Path) -> None:
    """Far above the most frequent package, and about as well as logistic regression on TF-IDF, in some epochs."""
    words = [f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"]
    made = main(["fit", "--config", "configs/language/text_classification_topics.yaml", *words])
    baseline = made.datamodule.baseline("test")
    acc = float(made.trainer.callback_metrics["test/acc"])
    assert acc > baseline.metrics["acc"] + 0.3
    assert acc > baseline.others[0].metrics["acc"] - 0.05


def test_lstm_learns_from_its_carried_state(workdir: Path) -> None:
    """Which way round the letters go cannot be told at the begin of a block, but from the block before."""
    draw = random.Random(0)
    Path("text.txt").write_text("".join(draw.choice(["abcd", "dcba"]) * 20 for _ in range(500)))
    words = ["fit", "--model=LanguageModel", "--model.net=RNN", "--model.net.hidden=16", "--data=TextDataModule",
             "--data.path=text.txt", "--data.block_size=4", "--data.batch_size=16", "--data.streams=true",
             "--model.optimizer=AdamW", "--model.optimizer.lr=0.01", "--trainer.max_epochs=2",
             f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"]  # fmt: skip
    made = main(words)
    carried = float(made.trainer.callback_metrics["val/loss"])
    cold = main(
        [
            "validate",
            "--ckpt_path",
            str(made.run_folder),
            "--data.streams=false",
            f"--trainer.accelerator={ACCELERATOR}",
        ]
    )
    assert carried < float(cold.trainer.callback_metrics["val/loss"]) - 0.1


def test_transformer_translates_dates(workdir: Path) -> None:
    """Days that it has not seen; a copy of the source scores below 1."""
    made = main(
        ["fit", "--config", "configs/language/translation_dates.yaml", "--trainer.max_epochs=8",
         "--trainer.check_val_every_n_epoch=8", f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"]
    )  # fmt: skip
    assert float(made.trainer.callback_metrics["test/bleu"]) > 85
    assert made.model.baseline(made.datamodule, "test").metrics["bleu"] < 1


BANDIT = (
    *("--allow", "tests", "--data=GymnasiumDataModule", "--data.env_id=tests.environments:Bandit-v0"),
    *("--data.steps_per_epoch=1000", "--data.val_episodes=100", "--trainer.max_epochs=-1"),
    *("--trainer.num_sanity_val_steps=0", f"--trainer.accelerator={ACCELERATOR}", "--wandb.enabled=false"),
)


def test_dqn_learns_which_action_pays(workdir: Path) -> None:
    """A random policy earns a half, and so does the best constant action."""
    words = ["--model=DQN", "--model.net=QNetwork", "--model.optimizer=Adam", "--model.optimizer.lr=0.003"]
    words += ["--data.total_steps=2000", "--data.experience=Replay", "--data.experience.warmup_steps=200"]
    made = main(["fit", *BANDIT, *words, "--model.target_update_every=50"])
    assert float(made.trainer.callback_metrics["val/return_mean"]) == 1


def test_ppo_learns_which_action_pays(workdir: Path) -> None:
    words = ["--model=PPO", "--model.net=ActorCritic", "--model.optimizer=Adam", "--model.optimizer.lr=0.003"]
    words += ["--data.total_steps=4000", "--data.num_envs=8", "--data.experience=Rollouts"]
    made = main(["fit", *BANDIT, *words, "--model.minibatches=4", "--data.experience.steps=32"])
    assert float(made.trainer.callback_metrics["val/return_mean"]) == 1


def test_q_learning_crosses_the_lake(workdir: Path) -> None:
    """Not slippery, so that the best policy always arrives; a random one hardly ever does."""
    words = [
        "--model=QLearning",
        "--model.net=ActionTable",
        "--data=GymnasiumDataModule",
        "--data.env_id=FrozenLake-v1",
    ]
    words += ["--data.total_steps=8000", "--data.steps_per_epoch=8000", "--data.num_envs=4", "--data.experience=Online"]
    made = main(["fit", *words, "--data.options={is_slippery: false}", *BANDIT[-4:]])
    assert float(made.trainer.callback_metrics["val/return_mean"]) == 1


def test_adapters_learn_from_another_run_s_backbone(workdir: Path) -> None:
    """One epoch of the whole network, and three of adapters with 7 % of its weights."""
    words = ["fit", "--config", "configs/vision/classification_digits.yaml", f"--trainer.accelerator={ACCELERATOR}"]
    words += ["--wandb.enabled=false", "--test_after_fit=false"]
    source = main([*words, "--trainer.max_epochs=1"])
    taken = ["--trainer.callbacks+=PretrainedBackbone", f"--trainer.callbacks.checkpoint={source.run_folder}"]
    made = main([*words, *taken, "--model.lora.rank=2", "--trainer.callbacks+=FrozenAudit", "--trainer.max_epochs=3"])
    before, after = (float(run.trainer.callback_metrics["val/acc"]) for run in (source, made))
    assert after > max(0.9, before + 0.05)
    trained = sum(parameter.numel() for parameter in made.model.parameters() if parameter.requires_grad)
    assert trained < 0.08 * sum(parameter.numel() for parameter in made.model.parameters())
