"""What DataModules tell tasks and networks, and the DataModule behind `predict --input`."""

from collections.abc import Callable, Sequence

from datamodules.base import BaseDataModule
from datamodules.detection_input import DetectionInputDataModule
from datamodules.image_files import ImageFilesDataModule
from datamodules.segmentation_input import SegmentationInputDataModule
from datamodules.text_input import TextInputDataModule
from datamodules.text_lines_input import TextLinesInputDataModule
from datamodules.translation_input import TranslationInputDataModule
from toolkit.errors import UserError
from toolkit.language.language_model import LanguageModel
from toolkit.language.text_classification import TextClassification
from toolkit.language.translation import Translation
from toolkit.selfsupervised.autoencoder import Autoencoder
from toolkit.task import Task
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.object_detection import ObjectDetection
from toolkit.vision.semantic_segmentation import SemanticSegmentation

FACTS = (
    *("num_classes", "class_names", "category_ids", "in_channels", "image_size", "pixel_mean", "pixel_std"),
    *("vocabulary", "vocabulary_size", "block_size", "max_length", "pretrained"),
    *("source_vocabulary", "target_vocabulary", "source_vocabulary_size", "target_vocabulary_size"),
    *("observation_shape", "num_states", "num_actions", "action_dim", "action_low", "action_high", "total_steps"),
)
"""Properties linked from ``data`` to the arguments of the same name of ``model`` and ``model.net``."""

IMAGE_READERS: dict[type[Task], Callable[..., BaseDataModule]] = {
    ImageClassification: ImageFilesDataModule,
    Autoencoder: ImageFilesDataModule,
    SemanticSegmentation: SegmentationInputDataModule,
    ObjectDetection: DetectionInputDataModule,
}
"""By task, what reads files and folders of images."""


def input_data(task: Task, paths: Sequence[str], batch_size: int, num_workers: int) -> BaseDataModule:
    """The DataModule that reads a user's files for a task.

    Raises:
        UserError: The task does not say what its input looks like.
    """
    if isinstance(task, (ImageClassification, Autoencoder, SemanticSegmentation, ObjectDetection)):
        if task.image_size is None:
            raise UserError("predict: the checkpoint does not say to which image_size files are resized.")
        reader = next(reader for kind, reader in IMAGE_READERS.items() if isinstance(task, kind))
        return reader(list(paths), task.image_size, task.in_channels, batch_size=batch_size, num_workers=num_workers)
    if isinstance(task, LanguageModel):
        return TextInputDataModule(
            list(paths), task.tokenizer, task.net.block_size, batch_size=batch_size, num_workers=num_workers
        )
    if isinstance(task, Translation):
        return TranslationInputDataModule(
            list(paths), task.source_tokenizer, task.max_length, batch_size=batch_size, num_workers=num_workers
        )
    if isinstance(task, TextClassification):
        return TextLinesInputDataModule(
            list(paths), task.tokenizer, task.max_length, batch_size=batch_size, num_workers=num_workers
        )
    raise UserError(f"predict: no reader of files for {type(task).__name__}; leave --input out.")
