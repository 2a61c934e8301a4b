"""What every run gets without asking: loggers, checkpoints, pictures, and a progress bar that suits the terminal."""

from collections.abc import Mapping, Sequence

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from callbacks.best_checkpoint import BestCheckpoint
from callbacks.classification_media import ConfusionMatrix
from callbacks.csv_logger import MetricsCSV
from callbacks.detection_media import DetectedBoxes, PrecisionCurves
from callbacks.divergence_guard import DivergenceGuard
from callbacks.environment_budget import EnvironmentBudget
from callbacks.episode_video import EpisodeVideo
from callbacks.equal_batches import EqualBatches
from callbacks.generated_images import Interpolation, Reconstructions, SampleGrid
from callbacks.generated_text import GeneratedText
from callbacks.image_media import InputImages, WorstErrors
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.learning_rate import StepLearningRate
from callbacks.length_histogram import LengthHistogram
from callbacks.online_knn import OnlineKNN
from callbacks.out_of_memory import OutOfMemory
from callbacks.prediction_writer import PredictionWriter
from callbacks.preemption import Preemption
from callbacks.progress import make_progress_bar
from callbacks.run_folder import RunFolder, new_run_folder, newest_run
from callbacks.segmentation_media import ClassIoU, PredictedMasks
from callbacks.step_seed import StepSeed
from callbacks.summary import RunSummary
from callbacks.throughput import Throughput
from callbacks.translation_media import TranslatedTexts, TranslationLengths
from callbacks.view_pairs import ViewPairs
from callbacks.wandb_logger import QuietWandbLogger
from toolkit.commands.parts import Run
from toolkit.generative.diffusion import DenoisingDiffusion
from toolkit.generative.gan import GAN
from toolkit.generative.vae import VAE
from toolkit.language.language_model import LanguageModel
from toolkit.language.text_classification import TextClassification
from toolkit.language.translation import Translation
from toolkit.reinforcement.reinforcement_task import ReinforcementTask
from toolkit.secrets import mask
from toolkit.selfsupervised.autoencoder import Autoencoder
from toolkit.selfsupervised.image_encoder import ImageEncoder, has_labels
from toolkit.selfsupervised.two_views import TwoViews
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.object_detection import ObjectDetection
from toolkit.vision.semantic_segmentation import SemanticSegmentation

__all__ = ["PredictionWriter", "RunSummary", "new_run_folder", "newest_run"]

MEDIA: dict[type[Task], tuple[type[Callback], ...]] = {
    ImageClassification: (InputImages, ConfusionMatrix, WorstErrors),
    ObjectDetection: (DetectedBoxes, PrecisionCurves),
    SemanticSegmentation: (PredictedMasks, ClassIoU),
    GAN: (SampleGrid, Interpolation),
    VAE: (SampleGrid, Interpolation, Reconstructions),
    DenoisingDiffusion: (SampleGrid,),
    TwoViews: (ViewPairs,),  # type: ignore[type-abstract]
    Autoencoder: (Reconstructions,),
    LanguageModel: (GeneratedText,),
    Translation: (TranslatedTexts, TranslationLengths),
    TextClassification: (ConfusionMatrix, LengthHistogram),
    ReinforcementTask: (EpisodeVideo,),  # type: ignore[type-abstract]
}
"""The standard picture set of each family; a subclass of a task gets its parent's."""

MEASURES: dict[type[Task], tuple[type[Callback], ...]] = {ImageEncoder: (OnlineKNN,)}  # type: ignore[type-abstract]
"""What logs a family's monitored metric, where the task itself does not."""


def loggers(run: Run) -> list[Logger]:
    """CSV always, Weights & Biases unless it is disabled."""
    chosen: list[Logger] = [MetricsCSV(run.folder)]
    if run.wandb.enabled:
        name = f"{run.name}/{run.folder.name}"
        chosen.append(
            QuietWandbLogger(
                run.folder,
                project=run.wandb.project,
                name=name,
                entity=run.wandb.entity,
                tags=mask(run.wandb.tags),
                x_axis="env_steps" if isinstance(run.task, ReinforcementTask) else "trainer/global_step",
            )
        )
    return chosen


def close_loggers(running: Sequence[Logger]) -> str | None:
    """End the W&B run, and say where it is or how to upload it."""
    hint = None
    for logger in running:
        logger.save()
        if isinstance(logger, QuietWandbLogger):
            hint = logger.sync_hint()
            logger.close()
    return hint


def fit_callbacks(run: Run) -> list[Callback]:
    """Best and last checkpoint, learning rate, throughput, progress, pictures, and the run's record."""
    monitor = run.task.monitor if run.validates and _is_measured(run) else None
    folder = run.folder / "checkpoints"
    options = run.checkpoint
    last = LastCheckpoint(folder, options.keep_last, options.every_n_steps, options.every_n_minutes)
    saving: list[Callback] = [last, Preemption(last), DivergenceGuard(last)]  # before all that begins a step
    best = BestCheckpoint(folder, monitor, run.task.mode, options.keep_best)
    return [
        *(saving if run.saves else []),
        EqualBatches(),
        OutOfMemory(run.folder),
        StepSeed(int(run.config["seed_everything"])),
        RunFolder(run.folder, run.config, run.command),
        *([StepLearningRate()] if run.config["trainer"]["logger"] is not False else []),
        Throughput(),
        make_progress_bar(),
        *_of_family(MEDIA, run.task),
        *_of_family(MEASURES, run.task),
        *([EnvironmentBudget()] if isinstance(run.task, ReinforcementTask) else []),
        *([best] if run.saves else []),
    ]


def evaluation_callbacks(task: Task) -> list[Callback]:
    """Progress and the family's metric; the pictures that a config names come with its config."""
    return [make_progress_bar(), *_of_family(MEASURES, task)]


def _is_measured(run: Run) -> bool:
    """Whether there is a measure of the task at all: that of an encoder needs labels."""
    return not isinstance(run.task, ImageEncoder) or has_labels(run.data)


def _of_family(table: Mapping[type[Task], tuple[type[Callback], ...]], task: Task) -> list[Callback]:
    return [callback() for kind, callbacks in table.items() if isinstance(task, kind) for callback in callbacks]
