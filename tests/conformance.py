"""One row a task: what the conformance suite needs to put any task through the same tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from datamodules.base import BaseDataModule
from datamodules.digit_detection import DigitScenesDataModule
from datamodules.digits import DigitsDataModule
from datamodules.experience import Experience, Replay, Rollouts
from datamodules.gymnasium import GymnasiumDataModule
from datamodules.online import Online
from datamodules.parallel_text import ParallelTextDataModule
from datamodules.replay_buffer import Priorities
from datamodules.semi_supervised import SemiSupervisedDataModule
from datamodules.source import DataSource
from datamodules.text import TextDataModule
from datamodules.text_classification import TextClassificationDataModule
from datamodules.wrapped import LabelledSubsetDataModule
from examples.parity import Parity
from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.networks.conv_vae import ConvVAE
from toolkit.generative.networks.dcgan import DCGAN
from toolkit.generative.vae import VAE
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.language_model import LanguageModel
from toolkit.language.networks.attention_gru import AttentionGRU
from toolkit.language.networks.bidirectional_lstm import BidirectionalLSTM
from toolkit.language.networks.rnn import RNN
from toolkit.language.text_classification import TextClassification
from toolkit.language.translation import Translation
from toolkit.nn.augmentation import Augmentation, RandomAffine, RandomCrop
from toolkit.nn.corruption import GaussianNoise
from toolkit.nn.unet import UNet
from toolkit.nn.vit import ViT
from toolkit.reinforcement.dqn import DQN
from toolkit.reinforcement.networks.action_table import ActionTable
from toolkit.reinforcement.networks.actor_critic import ActorCritic
from toolkit.reinforcement.networks.encoders import MLPEncoder
from toolkit.reinforcement.networks.q_network import QNetwork
from toolkit.reinforcement.networks.soft_actor_critic import SoftActorCritic
from toolkit.reinforcement.ppo import PPO
from toolkit.reinforcement.q_learning import QLearning
from toolkit.reinforcement.sac import SAC
from toolkit.reinforcement.sarsa import SARSA
from toolkit.selfsupervised.autoencoder import Autoencoder
from toolkit.selfsupervised.byol import BYOL
from toolkit.selfsupervised.mae import MAE
from toolkit.selfsupervised.networks.conv_autoencoder import ConvAutoencoder
from toolkit.selfsupervised.simclr import SimCLR
from toolkit.selfsupervised.vicreg import VICReg
from toolkit.task import Task
from toolkit.vision.fixmatch import FixMatch
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.faster_rcnn import FasterRCNN
from toolkit.vision.networks.small_cnn import SmallCNN
from toolkit.vision.object_detection import ObjectDetection


@dataclass(frozen=True)
class Case:
    """A task, built in Python and through the command line."""

    net: Callable[[], nn.Module]
    build: Callable[[nn.Module], Task]
    data: Callable[[], DataSource]
    arguments: tuple[str, ...]
    """The same task and data in the command line's words."""
    uneven: tuple[str, ...] = ()
    """What makes the ranks' shares of a batch's loss differ."""
    without_noise: tuple[str, ...] | None = None
    """The arguments with a network without BatchNorm and dropout, whose noise or statistics are a rank's own; by
    default those above with an MLP."""
    shards: bool = True
    """Whether two ranks do what one does: not where each collects its own experience."""
    accumulates: bool = True
    """Whether the Trainer's accumulation makes a larger batch of small ones: not of tasks with several optimizers, nor
    where a loss compares the samples of a batch."""

    def test_rows(self) -> int:
        """How many samples or episodes `predict` goes through."""
        data = self.data()
        return (
            len(data.dataset("test")) if isinstance(data, BaseDataModule) else len(next(iter(data.test_dataloader())))
        )


def digits() -> BaseDataModule:
    return DigitsDataModule(batch_size=64)


NARROW = {"generator_width": 4, "discriminator_width": 4}
# 16: with as many channels as groups, normalisation leaves a bias without a gradient, and Adam steps along rounding
DIFFUSION = (
    *("--model=DenoisingDiffusion", "--model.sampling_steps=3", "--model.net=UNet", "--model.net.width=16"),
    *("--model.net.conditional=true", "--data=DigitsDataModule"),
)

SGD = ("--model.optimizer=SGD", "--model.optimizer.lr=0.003")
SMALL_HEAD = {"projection": (16, 8)}
AUGMENT = (
    '{"class_path": "Augmentation", "init_args": {"transforms": [{"class_path": "RandomCrop", "init_args": '
    '{"padding": 1}}, {"class_path": "RandomAffine", "init_args": {"degrees": 20}}]}}'
)


def views() -> Augmentation:
    return Augmentation([RandomCrop(padding=1), RandomAffine(degrees=20)])


def two_views(task: str, net: str, *more: str) -> tuple[str, ...]:
    return (
        *(f"--model={task}", f"--model.net={net}", "--model.projection=[16,8]", f"--model.augment={AUGMENT}"),
        *(*more, "--data=DigitsDataModule"),
    )


TINY_VIT = {"patch_size": 2, "dim": 16, "depth": 1, "heads": 2}
MASKED = (
    *("--model=MAE", "--model.net=ViT", "--model.decoder_dim=8", "--model.decoder_heads=2", "--model.decoder_depth=1"),
    *(f"--model.net.{name}={value}" for name, value in TINY_VIT.items()),
    "--data=DigitsDataModule",
)

DENOISING = (
    *("--model=Autoencoder", "--model.net=ConvAutoencoder", "--model.net.widths=[4]", "--model.net.hidden=16"),
    *("--model.corruption=GaussianNoise", "--data=DigitsDataModule"),
)


def few_labels() -> BaseDataModule:
    few = LabelledSubsetDataModule(DigitsDataModule(), labels_per_class=4)
    return SemiSupervisedDataModule(few, DigitsDataModule(), batch_size=60, labelled_batch_size=20)


FEW_LABELS = (
    *("--data=SemiSupervisedDataModule", "--data.source=LabelledSubsetDataModule", "--data.labelled_batch_size=20"),
    *("--data.source.source=DigitsDataModule", "--data.source.labels_per_class=4"),
    *("--data.unlabelled=DigitsDataModule", "--data.batch_size=60"),
)


def topics() -> BaseDataModule:
    return TextDataModule(streams=True, block_size=32)


RECURRENT = (
    *("--model=LanguageModel", "--model.net=RNN", "--model.net.hidden=16", "--model.net.dropout=0.1"),
    *("--data=TextDataModule", "--data.streams=true", "--data.block_size=32"),
)
# 284: some 1,270 training blocks, whatever the version of Python
ATTENTIVE = (
    *("--model=LanguageModel", "--model.net=GPT", "--model.net.dim=8", "--model.net.heads=1", "--model.net.depth=1"),
    *("--data=TextDataModule", "--data.block_size=284"),
)


def dates() -> ParallelTextDataModule:
    return ParallelTextDataModule(tokenizer=CharTokenizer(), val_size=0.03, test_size=0.03)


WRITTEN = (
    *("--model=Translation", "--model.beam=2", "--data=ParallelTextDataModule", "--data.tokenizer=CharTokenizer"),
    *("--data.val_size=0.03", "--data.test_size=0.03"),
)
RECURRENT_TRANSLATOR = (
    *(*WRITTEN, "--model.net=AttentionGRU", "--model.net.hidden=8", "--model.net.embedding=8"),
    "--model.net.dropout=0.1",
)
ATTENTIVE_TRANSLATOR = (
    *(*WRITTEN, "--model.net=TranslationTransformer", "--model.net.dim=8", "--model.net.heads=2"),
    *("--model.net.encoder_depth=1", "--model.net.decoder_depth=1", "--model.net.dropout=0.0"),
)


def docstrings() -> BaseDataModule:
    return TextClassificationDataModule(tokenizer=CharTokenizer(), max_length=4000, length_window=4)


READING = (
    *("--model=TextClassification", "--model.net=BidirectionalLSTM", "--model.net.hidden=4", "--model.net.dropout=0.1"),
    *("--model.label_smoothing=0.1", "--data=TextClassificationDataModule", "--data.length_window=4"),
)
BAG = (
    *(
        "--model=TextClassification",
        "--model.net=BagOfEmbeddings",
        "--model.net.dim=8",
        "--model.net.pooling=attention",
    ),
    *("--data=TextClassificationDataModule", "--data.length_window=4"),
)

FIXMATCH = ("--model=FixMatch", f"--model.augment={AUGMENT}", f"--model.strong={AUGMENT}", "--model.threshold=0.5")

SCENES = {"sizes": (160, 21, 21), "image_size": 48, "digits": (0, 2), "scale": (2.0, 3.0), "batch_size": 8}
DETECTOR = {"anchor_sizes": (12, 24), "width": 8, "box_width": 16, "proposals": 20, "samples": 16}


def scenes() -> BaseDataModule:
    return DigitScenesDataModule(**SCENES)


def detector() -> FasterRCNN:
    return FasterRCNN(10, SmallCNN(1, 3, (4, 8, 8, 8)), strides=(4, 8), **DETECTOR)


def words(prefix: str, arguments: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"--{prefix}.{name}={json.dumps(value)}" for name, value in arguments.items())


DETECTING = (
    *("--model=ObjectDetection", "--model.net=FasterRCNN", "--model.net.strides=[4,8]", *words("model.net", DETECTOR)),
    *("--model.net.backbone=SmallCNN", "--model.net.backbone.num_classes=1", "--model.net.backbone.in_channels=3"),
    *("--model.net.backbone.widths=[4,8,8,8]", "--data=DigitScenesDataModule", *words("data", SCENES)),
    "--model.augment=DetectionAugmentation",
    '--model.augment.transforms=[{"class_path":"RandomZoom"},{"class_path":"HorizontalBoxFlip"}]',
)


def environment(env_id: str, experience: Experience) -> Callable[[], DataSource]:
    return lambda: GymnasiumDataModule(
        env_id, total_steps=400, steps_per_epoch=80, num_envs=2, experience=experience, val_episodes=2, test_episodes=3
    )


def agent(task: str, net: str, env_id: str, experience: str, *more: str) -> tuple[str, ...]:
    return (
        *(f"--model={task}", f"--model.net={net}", "--data=GymnasiumDataModule", f"--data.env_id={env_id}"),
        *("--data.total_steps=400", "--data.steps_per_epoch=80", "--data.num_envs=2", "--data.val_episodes=2"),
        *("--data.test_episodes=3", f"--data.experience={experience}", *more),
    )


REPLAY = {"steps_per_item": 10, "train_every": 5, "updates": 2, "batch_size": 8, "warmup_steps": 10, "capacity": 60}
REPLAY_WORDS = tuple(f"--data.experience.{name}={value}" for name, value in REPLAY.items())
SMALL = MLPEncoder([8])
SMALL_WORDS = ("--model.net.encoder=MLPEncoder", "--model.net.encoder.hidden=[8]")

CASES: dict[type[Task], Case] = {
    ImageClassification: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: ImageClassification(net, num_classes=10, label_smoothing=0.1),
        data=digits,
        arguments=("--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule"),
        uneven=("--model.class_weights=[1,2,3,4,5,6,7,8,9,20]",),
    ),
    GAN: Case(
        net=lambda: DCGAN(in_channels=1, image_size=(8, 8), num_classes=10, conditional=True, **NARROW),
        build=lambda net: GAN(net, num_classes=10, image_size=(8, 8)),
        data=digits,
        arguments=(
            *("--model=GAN", "--model.net=DCGAN", "--model.net.conditional=true", "--data=DigitsDataModule"),
            *(f"--model.net.{name}={width}" for name, width in NARROW.items()),
        ),
        without_noise=(
            *("--model=GAN", "--model.net=DCGAN", "--data=DigitsDataModule", "--model.critic_steps=2"),
            *("--model.net.batch_norm=false", "--model.net.spectral_norm=false", "--model.penalty=GradientPenalty"),
            *(f"--model.net.{name}={width}" for name, width in NARROW.items()),
        ),
        accumulates=False,
    ),
    VAE: Case(
        net=lambda: ConvVAE(in_channels=1, image_size=(8, 8), widths=(4,), hidden=16),
        build=lambda net: VAE(net),
        data=digits,
        arguments=("--model=VAE", "--model.net=ConvVAE", "--model.net.hidden=16", "--data=DigitsDataModule"),
        without_noise=("--model=VAE", "--model.net=ConvVAE", "--model.net.hidden=16", "--data=DigitsDataModule"),
    ),
    DenoisingDiffusion: Case(
        net=lambda: UNet(in_channels=1, num_classes=10, conditional=True, width=16),
        build=lambda net: DenoisingDiffusion(net, num_classes=10, image_size=(8, 8), sampling_steps=3),
        data=digits,
        arguments=DIFFUSION,
        without_noise=DIFFUSION,
    ),
    SimCLR: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: SimCLR(net, augment=views(), **SMALL_HEAD),
        data=digits,
        arguments=two_views("SimCLR", "SmallCNN"),
        without_noise=two_views("SimCLR", "MLP", "--model.batch_norm=false"),
        accumulates=False,
    ),
    VICReg: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: VICReg(net, augment=views(), **SMALL_HEAD),
        data=digits,
        arguments=two_views("VICReg", "SmallCNN"),
        # a bias that both views share has no gradient, and Adam would step along its rounding
        without_noise=two_views("VICReg", "MLP", "--model.batch_norm=false", *SGD),
        accumulates=False,
    ),
    BYOL: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: BYOL(net, augment=views(), **SMALL_HEAD),
        data=digits,
        # a momentum that follows the length of the run would change when the run is extended
        arguments=two_views("BYOL", "SmallCNN", "--model.final_momentum=null"),
        without_noise=two_views("BYOL", "MLP", "--model.batch_norm=false"),
    ),
    MAE: Case(
        net=lambda: ViT(num_classes=10, in_channels=1, image_size=(8, 8), **TINY_VIT),
        build=lambda net: MAE(net, decoder_dim=8, decoder_heads=2, decoder_depth=1),
        data=digits,
        arguments=MASKED,
        without_noise=(*MASKED, *SGD),  # likewise the keys' bias of attention
    ),
    Autoencoder: Case(
        net=lambda: ConvAutoencoder(in_channels=1, image_size=(8, 8), code_dim=4, widths=[4], hidden=16),
        build=lambda net: Autoencoder(net, GaussianNoise(0.3)),
        data=digits,
        arguments=DENOISING,
        without_noise=DENOISING,
    ),
    LanguageModel: Case(
        net=lambda: RNN(topics().vocabulary_size, hidden=16),
        build=lambda net: LanguageModel(net, vocabulary=topics().vocabulary),
        data=topics,
        arguments=RECURRENT,  # carries a state, which streams on two ranks and a resume must not lose
        without_noise=ATTENTIVE,
    ),
    Translation: Case(
        net=lambda: AttentionGRU(dates().source_vocabulary_size, dates().target_vocabulary_size, 8, 8),
        build=lambda net: Translation(net, dates().source_vocabulary, dates().target_vocabulary, beam=2),
        data=dates,
        arguments=RECURRENT_TRANSLATOR,
        without_noise=(*ATTENTIVE_TRANSLATOR, *SGD),  # likewise the keys' bias of attention
    ),
    TextClassification: Case(
        net=lambda: BidirectionalLSTM(8, docstrings().vocabulary_size, hidden=4),
        build=lambda net: TextClassification(net, 8, vocabulary=docstrings().vocabulary),
        data=docstrings,
        arguments=READING,
        without_noise=BAG,
    ),
    FixMatch: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=10),
        build=lambda net: FixMatch(net, 10, augment=views(), strong=views(), threshold=0.5),
        data=few_labels,
        arguments=(*FIXMATCH, "--model.net=SmallCNN", *FEW_LABELS),
        without_noise=(*FIXMATCH, "--model.net=MLP", *FEW_LABELS),
        accumulates=False,
    ),
    ObjectDetection: Case(
        net=detector,
        build=lambda net: ObjectDetection(net, 10),
        data=scenes,
        arguments=DETECTING,
        without_noise=(
            *(*DETECTING, "--model.net.freeze_norm=true", *SGD),
            *words("data", {"sizes": (1257, 30, 31), "image_size": 32, "digits": (0, 1), "scale": (2.0, 2.5)}),
        ),
    ),
    QLearning: Case(
        net=lambda: ActionTable(num_states=16, num_actions=4),
        build=lambda net: QLearning(net, num_actions=4, total_steps=400),
        data=environment("FrozenLake-v1", Online(10)),
        arguments=agent("QLearning", "ActionTable", "FrozenLake-v1", "Online", "--data.experience.steps=10"),
        shards=False,
    ),
    SARSA: Case(
        net=lambda: ActionTable(num_states=16, num_actions=4),
        build=lambda net: SARSA(net, num_actions=4, total_steps=400),
        data=environment("FrozenLake-v1", Online(10)),
        arguments=agent("SARSA", "ActionTable", "FrozenLake-v1", "Online", "--data.experience.steps=10"),
        shards=False,
    ),
    DQN: Case(
        net=lambda: QNetwork((4,), 2, SMALL, dueling=True, noisy=True, atoms=5),
        build=lambda net: DQN(net, num_actions=2, total_steps=400),
        data=environment("CartPole-v1", Replay(**REPLAY, n_step=2, prioritized=Priorities())),
        arguments=agent(
            *("DQN", "QNetwork", "CartPole-v1", "Replay", *REPLAY_WORDS, *SMALL_WORDS, "--model.net.dueling=true"),
            *("--model.net.noisy=true", "--model.net.atoms=5", "--data.experience.n_step=2"),
            *("--data.experience.prioritized=Priorities", "--model.target_update_every=3"),
        ),
        shards=False,
    ),
    PPO: Case(
        net=lambda: ActorCritic((4,), num_actions=2, encoder=SMALL, lstm=4),
        build=lambda net: PPO(net, num_actions=2, observation_shape=(4,), total_steps=400, minibatches=2, epochs=2),
        data=environment("CartPole-v1", Rollouts(10)),
        arguments=agent(
            *("PPO", "ActorCritic", "CartPole-v1", "Rollouts", "--data.experience.steps=10", *SMALL_WORDS),
            *("--model.net.lstm=4", "--model.minibatches=2", "--model.epochs=2"),
            *("--model.normalization.observation=true", "--model.normalization.reward=true"),
        ),
        shards=False,
    ),
    SAC: Case(
        net=lambda: SoftActorCritic((3,), action_dim=1, encoder=SMALL),
        build=lambda net: SAC(net, action_low=[-2.0], action_high=[2.0], total_steps=400),
        data=environment("Pendulum-v1", Replay(**REPLAY)),
        arguments=agent("SAC", "SoftActorCritic", "Pendulum-v1", "Replay", *REPLAY_WORDS, *SMALL_WORDS),
        shards=False,
    ),
    Parity: Case(
        net=lambda: SmallCNN(in_channels=1, num_classes=1),
        build=lambda net: Parity(net),
        data=digits,
        arguments=(
            "--model=examples.parity.Parity",
            "--model.net=SmallCNN",
            "--model.net.num_classes=1",
            "--data=DigitsDataModule",
        ),
    ),
}
