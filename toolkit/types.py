"""The typed structures that DataModules hand to tasks and tasks hand back. Imports torch only.

Shape legend: B batch, C channels, H height, W width, K classes, T tokens.
"""

from typing import Any, Literal, NamedTuple

from torch import Tensor

Stage = Literal["train", "val", "test"]

IGNORE_LABEL = -100
"""Label of a sample that counts nowhere: in no loss and in no metric (torch's own ``ignore_index``)."""


class ImageBatch(NamedTuple):
    """Images with one label each, as they come from the loader: raw pixels, not augmented, not normalised."""

    image: Tensor
    """``(B, C, H, W)``, uint8, raw pixels in 0..255."""
    label: Tensor
    """``(B,)``, int64, class numbers in 0..K-1; ``IGNORE_LABEL`` marks an unreadable sample."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the sample's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the sample's key for `toolkit.keys`, a hash of (seed, epoch, index)."""


class SemiSupervisedBatch(NamedTuple):
    """Many images whose labels nobody may look at, and a few labelled ones."""

    unlabelled: ImageBatch
    """B images; every label is ``IGNORE_LABEL``."""
    labelled: ImageBatch
    """B / m images, drawn anew for each batch."""
    readable: Tensor
    """``(B,)``, bool; false where an unlabelled image could not be read and counts nowhere."""


class ImagePrediction(NamedTuple):
    """What `predict` writes for a batch of classified images."""

    probability: Tensor
    """``(B, K)``, float32, each row sums to 1."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the sample's number in its data set."""
    readable: Tensor
    """``(B,)``, bool; false where the file could not be read and the probabilities mean nothing."""


class ImageScore(NamedTuple):
    """What `predict` writes for a batch of images that a model rates."""

    score: Tensor
    """``(B,)``, float32; what it is, and whether high or low is likely, the task's ``predict_step`` says."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the sample's number in its data set."""
    readable: Tensor
    """``(B,)``, bool; false where the file could not be read and the score means nothing."""


class ImageFeatures(NamedTuple):
    """What `predict` writes for a batch of images that an encoder describes."""

    feature: Tensor
    """``(B, D)``, float32."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the sample's number in its data set."""
    readable: Tensor
    """``(B,)``, bool; false where the file could not be read and the features mean nothing."""


class TextBatch(NamedTuple):
    """Pieces of text as tokens, each with the token that follows it."""

    token: Tensor
    """``(B, T)``, int64, token numbers."""
    target: Tensor
    """``(B, T)``, int64, the token behind each one; ``IGNORE_LABEL`` where it counts nowhere."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the piece's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the piece's key for `toolkit.keys`, a hash of (seed, epoch, index)."""
    continues: bool = False
    """Whether each row goes on where the same row of the batch before ended."""


class TextScore(NamedTuple):
    """What `predict` writes for a batch of texts that a language model reads."""

    nats: Tensor
    """``(B,)``, float32, the negative log probability of the whole text."""
    tokens: Tensor
    """``(B,)``, int64, over how many tokens."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the text's number in its data set."""


class StepOutput(NamedTuple):
    """What a task's ``step`` returns."""

    loss: Tensor
    """Scalar; what is minimised in training."""
    prediction: Any = None
    """In evaluation: what `predict` would return for the batch, for the callbacks that draw it."""
    weight: Tensor | float | None = None
    """What the loss is a mean over: the number of samples or tokens, or the sum of their weights. With it, ranks and
    accumulated batches give the gradient of the mean over all of them. None: each batch counts the same."""


class Baseline(NamedTuple):
    """What a predictor that learned nothing scores: the figure beside every result."""

    name: str
    """What it does, such as "majority class"."""
    metrics: dict[str, float]
    """Score by metric name without stage, such as ``{"acc": 0.1}``."""
    others: tuple["Baseline", ...] = ()
    """Further ones that stand beside it."""


class TranslationBatch(NamedTuple):
    """Texts and their translations as tokens; padding stands behind each. S source tokens, T target tokens."""

    source: Tensor
    """``(B, S)``, int64, each text with its end."""
    source_length: Tensor
    """``(B,)``, int64, how many tokens of each row are text or its end."""
    token: Tensor
    """``(B, T)``, int64, what the decoder reads: an end, then the translation."""
    label: Tensor
    """``(B, T)``, int64, the token behind each one, the last of which is the end; ``IGNORE_LABEL`` for padding."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the pair's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the pair's key for `toolkit.keys`, a hash of (seed, epoch, index)."""


class Translations(NamedTuple):
    """What `predict` writes for a batch of texts that a model translates."""

    token: Tensor
    """``(B, T)``, int64, without the end; ``IGNORE_LABEL`` behind it."""
    score: Tensor
    """``(B,)``, float32, the log probability of the translation with its end, in nats."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the text's number in its data set."""


class LabelledTextBatch(NamedTuple):
    """Texts as tokens with one label each, padded to the longest of the batch."""

    token: Tensor
    """``(B, T)``, int64, token numbers; any where the mask is false."""
    mask: Tensor
    """``(B, T)``, bool, where a token stands; in each row the first ones, at least one."""
    label: Tensor
    """``(B,)``, int64, class numbers in 0..K-1; ``IGNORE_LABEL`` where it is not known."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the text's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the text's key for `toolkit.keys`, a hash of (seed, epoch, index)."""


class TextPrediction(NamedTuple):
    """What `predict` writes for a batch of classified texts."""

    probability: Tensor
    """``(B, K)``, float32, each row sums to 1."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the text's number in its data set."""


class DetectionBatch(NamedTuple):
    """Images with any number of labelled boxes, as they come from the loader. M: the most boxes of an image.

    Each image lies in the upper left corner of its place, zeros right of it and below it. Boxes are (left, top, right,
    bottom) in pixels of the image as it lies here.
    """

    image: Tensor
    """``(B, C, H, W)``, uint8, raw pixels in 0..255."""
    size: Tensor
    """``(B, 2)``, int64, height and width of each image within H and W; 0 where it could not be read."""
    original_size: Tensor
    """``(B, 2)``, int64, those of its file, in whose pixels boxes are predicted and compared."""
    box: Tensor
    """``(B, M, 4)``, float32; zeros for padding."""
    label: Tensor
    """``(B, M)``, int64, class numbers in 0..K-1; ``IGNORE_LABEL`` marks padding, which stands behind the boxes."""
    crowd: Tensor
    """``(B, M)``, bool, whether a box stands around many objects (COCO's ``iscrowd``): nothing learns from it, and a
    detection within it counts neither as right nor as wrong."""
    area: Tensor
    """``(B, M)``, float32, of each object in pixels of its file, which says whether it counts as small or large."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the image's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the image's key for `toolkit.keys`, a hash of (seed, epoch, index)."""

    def file_scale(self) -> Tensor:
        """``(B, 4)``, float32: by what boxes as they lie here are multiplied to lie in their files."""
        return (self.original_size.float() / self.size.clamp(min=1)).flip(1).repeat(1, 2)  # of x, y, x and y


class Detections(NamedTuple):
    """What `predict` writes for a batch of images in which objects are found. D: the most of an image."""

    box: Tensor
    """``(B, D, 4)``, float32, (left, top, right, bottom) in pixels of the image's file."""
    score: Tensor
    """``(B, D)``, float32, in ``[0, 1]``, the highest first; 0 for padding."""
    label: Tensor
    """``(B, D)``, int64, class numbers; ``IGNORE_LABEL`` marks padding, which stands behind the boxes."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the image's number in its data set."""


class SegmentationBatch(NamedTuple):
    """Images with one label a pixel, as they come from the loader: raw pixels, not augmented, not normalised."""

    image: Tensor
    """``(B, C, H, W)``, uint8, raw pixels in 0..255."""
    mask: Tensor
    """``(B, H, W)``, int64, class numbers in 0..K-1; ``IGNORE_LABEL`` where a pixel counts nowhere."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the image's number in its data set."""
    key: Tensor
    """``(B,)``, int64, the image's key for `toolkit.keys`, a hash of (seed, epoch, index)."""


class SegmentationPrediction(NamedTuple):
    """What `predict` writes for a batch of images whose pixels are classified."""

    mask: Tensor
    """``(B, H, W)``, int64, the likeliest class of each pixel."""
    confidence: Tensor
    """``(B, H, W)``, float32, its probability."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    """``(B,)``, int64, the image's number in its data set."""
