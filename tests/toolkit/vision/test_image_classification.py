import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from sklearn.metrics import f1_score, top_k_accuracy_score
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_calibration_error

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import Augmentation, CutMix, Mixing, Mixup, RandomHorizontalFlip
from toolkit.nn.normalize import Normalize
from toolkit.nn.pretrained import PretrainedNetwork
from toolkit.types import IGNORE_LABEL, ImageBatch, ImagePrediction, Stage
from toolkit.vision.image_classification import ImageClassification

K = 7


class Linear(nn.Module):
    """One affine map of all pixels; left and right are not alike to it."""

    def __init__(self, num_classes: int = K, channels: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(channels * 16, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(image.flatten(1))
        return logits


class Seen(Linear):
    """Keeps the images that it is given."""

    def forward(self, image: Tensor) -> Tensor:
        self.image = image.detach().clone()
        return super().forward(image)


class Pretrained(PretrainedNetwork):
    """Somebody else's network."""

    def __init__(self, pixel_mean: Sequence[float] | None, pixel_std: Sequence[float] | None) -> None:
        super().__init__()
        self.pixel_mean, self.pixel_std = pixel_mean, pixel_std

    def load_pretrained(self) -> None:
        """Nothing to load."""


def batch(size: int = 12, unreadable: Sequence[int] = (), seed: int = 0, channels: int = 3) -> ImageBatch:
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(K, (size,), generator=draw)
    label[list(unreadable)] = IGNORE_LABEL
    index = torch.arange(size)
    image = torch.randint(256, (size, channels, 4, 4), generator=draw).to(torch.uint8)
    return ImageBatch(image, label, index, sample_keys(0, 0, index))


def task(net: nn.Module | None = None, **options: Any) -> ImageClassification:
    return ImageClassification(net or Linear(), K, **options)


def without(samples: ImageBatch, unreadable: Sequence[int]) -> ImageBatch:
    kept = [number for number in range(len(samples.label)) if number not in unreadable]
    return ImageBatch(*(field[kept] for field in samples))


def train_means(model: ImageClassification) -> dict[str, float]:
    return {name: value.item() for name, value in model.means("train").compute().items()}


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, [0.5, 1.0, 2.0, 0.1, 3.0, 1.0, 1.5], [1, 2, 3, 4, 5, 6, 7]])
def test_training_loss_equals_torchs(label_smoothing: float, class_weights: list[float] | None) -> None:
    model, samples = task(label_smoothing=label_smoothing, class_weights=class_weights), batch()
    weight = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None
    expected = F.cross_entropy(
        model.net(samples.image / 255 * 2 - 1), samples.label, weight=weight, label_smoothing=label_smoothing
    )
    torch.testing.assert_close(model.step(samples, "train").loss, expected)


def test_loss_with_mixing_equals_torchs_on_soft_targets() -> None:
    model, samples = task(mix=Mixup(alpha=1.0), label_smoothing=0.1), batch()
    image, target = Mixup(alpha=1.0)(samples.image / 255 * 2 - 1, F.one_hot(samples.label, K).float(), samples.key)
    expected = F.cross_entropy(model.net(image), target, label_smoothing=0.1)
    torch.testing.assert_close(model.step(samples, "train").loss, expected)


@pytest.mark.parametrize("mix", [Mixup(alpha=1.0), CutMix()], ids=["mixup", "cutmix"])
def test_class_weights_of_mixed_targets_make_a_weighted_mean(mix: Mixing) -> None:
    """Of equal logits every sample's loss is ln K, and so is any weighted mean."""
    model, samples = task(mix=mix, class_weights=[1.0, 9.0, 0.0, 0.1, 3.0, 1.0, 5.0]), batch()
    torch.nn.init.zeros_(model.net.head.weight)  # type: ignore[union-attr,arg-type]
    torch.nn.init.zeros_(model.net.head.bias)  # type: ignore[union-attr,arg-type]
    assert model.step(samples, "train").loss.item() == pytest.approx(math.log(K), rel=1e-5)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_evaluation_loss_is_the_plain_cross_entropy(stage: Stage) -> None:
    samples = batch()
    model = task(
        label_smoothing=0.3,
        class_weights=[1.0, 9.0] * 3 + [5.0],
        mix=Mixup(),
        augment=Augmentation([RandomHorizontalFlip(1.0)]),
    )
    expected = F.cross_entropy(model.net(samples.image / 255 * 2 - 1), samples.label)
    torch.testing.assert_close(model.step(samples, stage).loss, expected)
    assert model.step(samples, "train").loss.item() != pytest.approx(expected.item(), rel=1e-3)


def test_gradient_reaches_every_parameter() -> None:
    model = task(label_smoothing=0.1, mix=CutMix())
    model.step(batch(), "train").loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


# Unreadable samples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weights", [None, [9.0, 1.0, 2.0, 0.1, 3.0, 1.0, 1.5]])
def test_unreadable_samples_count_nowhere(class_weights: list[float] | None) -> None:
    """Not even as what they are replaced by, class 0, which here weighs the most."""
    unreadable = [0, 3, 4, 11]
    samples = batch(unreadable=unreadable)
    whole, part = (
        task(class_weights=class_weights, label_smoothing=0.1),
        task(class_weights=class_weights, label_smoothing=0.1),
    )
    part.load_state_dict(whole.state_dict())
    for model, given in ((whole, samples), (part, without(samples, unreadable))):
        model.step(given, "train").loss.backward()  # type: ignore[no-untyped-call]
        model.step(given, "val")
    torch.testing.assert_close(whole.net.head.weight.grad, part.net.head.weight.grad)  # type: ignore[union-attr]
    assert train_means(whole) == pytest.approx(train_means(part))
    assert whole.means("train").sums()[1, 1] == 8
    assert whole.means("val").compute()["acc"] == part.means("val").compute()["acc"]
    ours, theirs = whole.metrics("val").compute(), part.metrics("val").compute()
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(
        {n: v.item() for n, v in theirs.items()}
    )


@pytest.mark.parametrize("mix", [Mixup(alpha=1.0), CutMix()], ids=["mixup", "cutmix"])
def test_unreadable_samples_are_not_mixed_into_others(mix: Mixing) -> None:
    """Samples 3 and 0, whose partners cannot be read, count as little as these: neither pixels nor label 0 leak."""
    model, samples = task(mix=mix), batch(unreadable=[2, 11])
    image, target = mix(samples.image / 255 * 2 - 1, F.one_hot(samples.label.clamp(min=0), K).float(), samples.key)
    clean = [1, *range(4, 11)]
    expected = F.cross_entropy(model.net(image[clean]), target[clean])
    torch.testing.assert_close(model.step(samples, "train").loss, expected)
    assert model.means("train").sums()[1, 1] == len(clean)


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0] * K}, {"mix": Mixup()}], ids=str)
def test_a_batch_of_unreadable_samples_is_a_zero_without_gradient(options: dict[str, Any]) -> None:
    model, samples = task(**options), batch(4, unreadable=range(4))
    loss = model.step(samples, "train").loss
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())
    output = model.step(samples, "val")
    assert output.loss.item() == 0
    assert isinstance(output.prediction, ImagePrediction)
    assert not output.prediction.readable.any()
    model.step(batch(), "val")
    assert model.means("val").compute()["loss"].isfinite()
    assert all(value.isfinite() for value in model.metrics("val").compute().values())


# Metrics --------------------------------------------------------------------------------------------------------------


def test_metrics_match_their_references_over_batches() -> None:
    net = Linear()
    net.head.weight.data *= 8  # so that confidences fall into all bins
    model = task(net)
    batches = [batch(20, unreadable=[1, 5], seed=1), batch(5, seed=2), batch(1, seed=3)]
    predictions = [model.step(samples, "val").prediction for samples in batches]
    probability, label = torch.cat([p.probability for p in predictions]).detach(), torch.cat([b.label for b in batches])
    kept = label != IGNORE_LABEL
    probability, label = probability[kept], label[kept]
    found = {name: value.item() for name, value in model.metrics("val").compute().items()}
    answer = probability.argmax(dim=1)
    classes = sorted(set(label.tolist()) | set(answer.tolist()))  # what occurs nowhere has no F1
    assert found == pytest.approx(
        {
            "val/f1": f1_score(label, answer, average="macro", labels=classes, zero_division=0),
            "val/ece": multiclass_calibration_error(probability, label, K, n_bins=15, norm="l1").item(),
            "val/acc_top5": top_k_accuracy_score(label, probability, k=5, labels=range(K)),
        }
    )
    means = model.means("val").compute()
    assert means["acc"].item() == pytest.approx((answer == label).float().mean().item())
    assert means["loss"].item() == pytest.approx(F.nll_loss(probability.log(), label).item(), rel=1e-5)


def test_top5_is_left_out_where_it_says_nothing() -> None:
    assert set(ImageClassification(Linear(5), 5).metrics("val").keys()) == {"val/f1", "val/ece"}


# Prediction -----------------------------------------------------------------------------------------------------------


def test_flip_averages_the_probabilities_of_an_image_and_its_mirror() -> None:
    plain, samples = task(), batch()
    flipped = task(test_time_flip=True)
    flipped.load_state_dict(plain.state_dict())
    mirrored = samples._replace(image=samples.image.flip(3))
    mean = (plain.predict_step(samples, 0).probability + plain.predict_step(mirrored, 0).probability) / 2
    torch.testing.assert_close(flipped.predict_step(samples, 0).probability, mean)
    torch.testing.assert_close(flipped.predict_step(mirrored, 0).probability, mean)
    assert not torch.allclose(plain.predict_step(samples, 0).probability, mean, atol=1e-3)
    torch.testing.assert_close(flipped.step(samples, "test").prediction.probability, mean)
    torch.testing.assert_close(flipped.step(samples, "train").loss, plain.step(samples, "train").loss)


def test_prediction_keeps_its_samples_apart() -> None:
    model, samples = task(), batch(6, unreadable=[4])._replace(index=torch.tensor([9, 3, 5, 1, 0, 2]))
    whole = model.eval().predict_step(samples, 0)
    torch.testing.assert_close(whole.probability.sum(dim=1), torch.ones(6))
    assert whole.index.tolist() == [9, 3, 5, 1, 0, 2]
    assert whole.readable.tolist() == [True] * 4 + [False, True]
    alone = model.predict_step(ImageBatch(*(field[2:3] for field in samples)), 0)
    torch.testing.assert_close(alone.probability, whole.probability[2:3])


# What the network sees ------------------------------------------------------------------------------------------------


def test_the_state_dict_holds_the_normalisation() -> None:
    stats = {"pixel_mean": [0.1, 0.2, 0.3], "pixel_std": [0.5, 0.25, 2.0]}
    model, samples = task(Seen(), **stats), batch()
    model.predict_step(samples, 0)
    mean, std = (torch.tensor(stats[name])[:, None, None] for name in ("pixel_mean", "pixel_std"))
    torch.testing.assert_close(model.net.image, (samples.image / 255 - mean) / std)
    other = task(pixel_mean=[0.5] * 3, pixel_std=[0.5] * 3)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.predict_step(samples, 0), model.predict_step(samples, 0))


@pytest.mark.parametrize(
    ("own", "expected"), [([0.485, 0.456, 0.406], [0.485, 0.456, 0.406]), (None, [0.1, 0.2, 0.3])], ids=["own", "none"]
)
def test_a_pretrained_networks_own_normalisation_wins(own: list[float] | None, expected: list[float]) -> None:
    net = Pretrained(own, own and [0.25] * 3)
    model = task(net, pixel_mean=[0.1, 0.2, 0.3], pixel_std=[1.0] * 3)
    torch.testing.assert_close(model.normalize.mean, torch.tensor(expected))
    torch.testing.assert_close(model.normalize.std, torch.tensor([0.25 if own else 1.0] * 3))
    assert model.in_channels == 3


def test_without_statistics_pixels_are_centred_whatever_the_channels() -> None:
    net = Seen(channels=2)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).repeat(12, 2, 4, 2)
    task(net).predict_step(batch()._replace(image=black_and_white), 0)
    assert net.image.flatten().sort().values[[0, -1]].tolist() == [-1.0, 1.0]


def test_only_training_augments_and_mixes() -> None:
    samples = batch()
    model = task(Seen(), augment=Augmentation([RandomHorizontalFlip(1.0)]))
    straight = Normalize([0.5], [0.5])(samples.image / 255)
    stages: tuple[Stage, ...] = ("val", "test")
    for stage in stages:
        model.step(samples, stage)
        torch.testing.assert_close(model.net.image, straight)
    model.step(samples, "train")
    torch.testing.assert_close(model.net.image, straight.flip(3))
    mixing = task(Seen(), mix=Mixup(alpha=1.0))
    mixing.step(samples, "val")
    torch.testing.assert_close(mixing.net.image, straight)
    mixing.step(samples, "train")
    assert not torch.allclose(mixing.net.image, straight)  # type: ignore[arg-type]


def test_channels_last_changes_the_layout_alone() -> None:
    samples = batch()
    plain, last = task(Seen()), task(Seen(), channels_last=True)
    last.load_state_dict(plain.state_dict())
    torch.testing.assert_close(last.predict_step(samples, 0), plain.predict_step(samples, 0))
    assert last.network_input(samples, False).is_contiguous(memory_format=torch.channels_last)
    assert not plain.network_input(samples, False).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mix", [None, Mixup()], ids=["plain", "mixed"])
def test_class_weights_in_half_precision(mix: Mixing | None) -> None:
    model = task(mix=mix, class_weights=[1.0, 2.0] * 3 + [1.0]).to(torch.bfloat16)
    loss = model.step(batch(), "train").loss
    assert loss.dtype == torch.float32
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("precision", "input_dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.float32),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
    ],
)
def test_precisions_of_the_trainer(precision: Any, input_dtype: torch.dtype) -> None:
    net = Seen()
    model = task(
        net, label_smoothing=0.1, class_weights=[1.0, 2.0] * 3 + [1.0], mix=CutMix(), augment=Augmentation([RandomHorizontalFlip()]),
        test_time_flip=True, pixel_mean=[0.4] * 3, pixel_std=[0.2] * 3,
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader: DataLoader[Any] = DataLoader([batch(unreadable=[1]), batch(5)], batch_size=None)  # type: ignore[arg-type]
    before = net.head.weight.detach().float().clone()
    trainer.fit(model, loader, loader)
    assert net.image.dtype == input_dtype
    assert not torch.equal(net.head.weight.float(), before)
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    predictions: Any = trainer.predict(model, loader)
    assert predictions[0].probability.dtype == torch.float32
    torch.testing.assert_close(predictions[0].probability.sum(dim=1), torch.ones(12))


# Wrong arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["ant", "bee"]}, "class_names: need 7 entries, one a class, got 2"),
        ({"class_names": []}, "class_names: need 7 entries.*got 0"),
        ({"class_weights": [1.0] * 8}, "class_weights: need 7 entries, one a class, got 8"),
        ({"class_weights": [1.0] * 6 + [-1.0]}, "class_weights: need numbers of 0 or more, one of them above 0"),
        ({"class_weights": [0] * 7}, "class_weights: need numbers of 0 or more, one of them above 0"),
        ({"label_smoothing": 1.0}, "need 0 <= label_smoothing < 1, got 1.0"),
        ({"label_smoothing": -0.1}, "got -0.1"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**options)


@pytest.mark.parametrize("net", [Linear(K + 1), nn.Identity()], ids=["classes", "feature maps"])
def test_a_network_of_another_shape_is_refused(net: nn.Module) -> None:
    model = task(net)
    with pytest.raises(UserError, match=r"model\.init_args\.net: it returned shape .* must return \(12, 7\)"):
        model.predict_step(batch(), 0)


def test_facts_of_the_data_are_kept() -> None:
    model = task(class_names=list("abcdefg"), image_size=[4, 5])  # a list, as YAML has it
    assert (model.class_names, model.image_size) == (list("abcdefg"), (4, 5))
    assert task().class_names == [str(number) for number in range(K)]
