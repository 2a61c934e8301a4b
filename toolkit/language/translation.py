"""Translation: the next token of a text, given another text. Shape legend: B batch, S and T tokens, V vocabulary."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.language.networks.translation_network import TranslationNetwork
from toolkit.language.tokenizer import restore
from toolkit.language.translation_search import beam_search, greedy_search
from toolkit.losses.label_smoothing import label_smoothed_nats
from toolkit.metrics.translation_scores import BLEU, CHRF
from toolkit.nn.layer_decay import parameter_groups
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Stage, StepOutput, TranslationBatch, Translations


class Translation(Task):
    """Cross entropy of each token of a translation, given the text and the right tokens before it (teacher forcing).

    Sutskever et al., "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014. The loss that is minimised has
    smoothed labels; every other one has not. Weights of two and more dimensions decay; biases and gains do not.
    Validation translates greedily, test and `predict` with a beam. BLEU and chrF are those of the whole set.

    Args:
        net: Source tokens, and target tokens so far, to the logits of the next.
        source_vocabulary: The source's trained tokenizer as plain values; the command line links it from the data.
        target_vocabulary: The target's.
        max_length: Tokens of a source text that `predict` reads, its end included; the command line links it, too.
        label_smoothing: Weight that a label gives to all tokens alike.
        beam: Hypotheses of a text that test and `predict` keep.
        length_penalty: How hypotheses of different lengths are compared; see `toolkit.language.translation_search`.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.

    Raises:
        UserError: A number out of its range, or the package sacrebleu is missing.
    """

    net: TranslationNetwork
    monitor = "val/bleu"
    mode: ClassVar[Literal["min", "max"]] = "max"
    input_kind = "text"

    def __init__(
        self,
        net: TranslationNetwork,
        source_vocabulary: dict[str, Any],
        target_vocabulary: dict[str, Any],
        max_length: int = 256,
        label_smoothing: float = 0.1,
        beam: int = 4,
        length_penalty: float = 1.0,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1 or beam < 1:
            raise UserError(
                f"model.init_args: need 0 <= label_smoothing < 1 and beam >= 1, got {label_smoothing} and {beam}."
            )
        metrics = MetricCollection({"bleu": BLEU(), "chrf": CHRF()}, compute_groups=False)
        scalars = ("loss", "nats")
        super().__init__(
            net, optimizer, scheduler, scheduler_config, metrics=metrics, scalars=scalars, evaluation_scalars=("loss",)
        )
        self.source_tokenizer, self.target_tokenizer = restore(source_vocabulary), restore(target_vocabulary)
        assert self.target_tokenizer.end_token is not None
        self.end = self.target_tokenizer.end_token
        self.max_length = max_length
        self.label_smoothing, self.beam, self.length_penalty = label_smoothing, beam, length_penalty

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices, and apart from them vectors, which do not decay."""
        return parameter_groups(self.net)

    def configure_model(self) -> None:
        """Refuse sharded weights: ranks write texts of different lengths, and would wait for each other's weights."""
        if self._device_mesh is not None:
            raise UserError(
                "trainer.strategy: Translation searches on each device by itself, which needs whole weights there; "
                "write strategy: ddp."
            )

    def step(self, batch: TranslationBatch, stage: Stage) -> StepOutput:
        """Mean loss of a token; in evaluation also the translations."""
        counts = batch.label != IGNORE_LABEL  # (B, T)
        logits = self.net(batch.source, batch.source_length, batch.token, counts)  # (N, V)
        if logits.shape[1] != self.target_tokenizer.size:
            raise UserError(
                f"model.init_args.net: it returned {logits.shape[1]} logits a token, the vocabulary has "
                f"{self.target_tokenizer.size} tokens; leave target_vocabulary_size to the data."
            )
        smoothed, nats = label_smoothed_nats(logits, batch.label[counts], self.label_smoothing)  # (N,)
        tokens = counts.sum()
        if stage == "train":
            loss = smoothed.mean()
            self.record(stage, tokens, loss=loss, nats=nats.mean())
            return StepOutput(loss, weight=tokens)
        loss = nats.mean()
        self.record(stage, tokens, loss=loss)
        found = self.translate(batch, beam=1 if stage == "val" else self.beam)
        self.metrics(stage).update(self.texts_of(found.token), self.texts_of(batch.label))
        return StepOutput(loss, found)

    def predict_step(self, batch: TranslationBatch, batch_idx: int) -> Translations:
        """Translations, by a beam."""
        return self.translate(batch, self.beam)

    @torch.no_grad()
    def translate(self, batch: TranslationBatch, beam: int) -> Translations:
        """Translate the source texts of a batch; a beam of one is greedy."""
        texts = (self.net, batch.source, batch.source_length, self.end)
        found = greedy_search(*texts) if beam == 1 else beam_search(*texts, beam, self.length_penalty)
        return Translations(found.token, found.score.float(), batch.index)

    @torch.no_grad()
    def attention(self, source: Tensor, target: Tensor) -> Tensor:
        """How much each token of a translation, and its end, attended to each source token: ``(T + 1, S)``.

        Args:
            source: ``(S,)``, int64, with its end.
            target: ``(T,)``, int64, without its end.
        """
        source, target = source.to(self.device), target.to(self.device)
        memory = self.net.encode(source[None], torch.tensor([len(source)], device=self.device))
        weights: list[Tensor] = []
        self.net.decode(torch.cat([target.new_tensor([self.end]), target])[None], memory, weights=weights)
        return weights[0][0]

    def texts_of(self, tokens: Iterable[Tensor]) -> list[str]:
        """The text of each row of target tokens, without ends and what is ignored."""
        rows = [[number for number in row.tolist() if number not in (IGNORE_LABEL, self.end)] for row in tokens]
        return [self.target_tokenizer.decode(row) for row in rows]

    def on_test_end(self) -> None:
        """Say by which rules the scores were computed, without which they compare with no others."""
        for name, metric in self.metrics("test").items(keep_base=True):
            assert isinstance(metric, (BLEU, CHRF))
            rank_zero_info(f"test: {name} is sacrebleu's, {metric.signature()}")
