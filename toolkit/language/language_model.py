"""Language modelling: the next token of a text. Shape legend: B batch, T tokens, V vocabulary."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MetricCollection

from toolkit.errors import UserError
from toolkit.gathered import gathered
from toolkit.language.networks.language_network import LanguageNetwork, State
from toolkit.language.text_generator import Sampling, TextGenerator
from toolkit.language.tokenizer import restore
from toolkit.metrics.text_scores import BitsPerByte, Perplexity
from toolkit.nn.lora import is_linear
from toolkit.precision import at_least_float32
from toolkit.task import SchedulerConfig, Task
from toolkit.types import IGNORE_LABEL, Stage, StepOutput, TextBatch, TextScore


class LanguageModel(Task, TextGenerator):
    """Cross entropy between a network's logits and the token that follows each token.

    Every reported loss is a mean over tokens, in nats. A network that carries its state goes on, in a batch that
    continues the one before, from the state behind it, through which no gradient flows (truncated backpropagation
    through time; Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
    Trajectories", Neural Computation, 1990); a checkpoint holds the state, so a resumed run is exact. Weights of two
    and more dimensions decay; biases and gains do not.

    Args:
        net: Tokens to the logits of the token behind each.
        vocabulary: The trained tokenizer as plain values; the command line links it from the DataModule.
        optimizer: AdamW with torch's defaults if None.
        scheduler: Constant learning rate if None.
        scheduler_config: When the scheduler steps.
    """

    net: LanguageNetwork
    input_kind = "text"

    def __init__(
        self,
        net: LanguageNetwork,
        vocabulary: dict[str, Any],
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_config: SchedulerConfig | None = None,
    ) -> None:
        metrics = MetricCollection({"perplexity": Perplexity(), "bits_per_byte": BitsPerByte()}, compute_groups=False)
        super().__init__(net, optimizer, scheduler, scheduler_config, metrics=metrics)
        self.tokenizer = restore(vocabulary)
        self.register_buffer("token_bytes", torch.tensor(self.tokenizer.token_bytes()), persistent=False)  # (V,)
        self._states: dict[str, State | None] = {}
        """Behind the last batch of each stage; of a network that carries it."""

    @property
    def is_mean_over_samples(self) -> bool:  # type: ignore[override]
        """A batch whose rows go on from a state is not computed in parts."""
        return not self.net.carries_state

    def step(self, batch: TextBatch, stage: Stage) -> StepOutput:
        """Mean nats a token; in evaluation also the nats of each row."""
        target = batch.target
        logits = self._logits(batch, stage)  # (B, T, V)
        counts = target != IGNORE_LABEL  # (B, T)
        tokens = counts.sum()
        if stage == "train":
            total = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE_LABEL, reduction="sum")
            loss = total / tokens.clamp(min=1)
            self.record(stage, tokens, loss=loss)
            return StepOutput(loss, weight=tokens)
        row_nats = self._nats(logits, target)
        nats = row_nats.sum()
        loss = nats / tokens.clamp(min=1)
        self.record(stage, tokens, loss=loss)
        size = self.get_buffer("token_bytes")[target.where(counts, 0)].where(counts, 0).sum()
        self.metrics(stage).update(nats=nats, tokens=tokens, size=size)
        return StepOutput(loss, TextScore(row_nats.float(), counts.sum(dim=1), batch.index))

    def _logits(self, batch: TextBatch, place: str) -> Tensor:
        state = self._states.get(place) if batch.continues and self.net.carries_state else None
        if state is not None:
            state = tuple(part.to(batch.token.device) for part in state)  # from a checkpoint, it is on the CPU
        if state is not None and len(state[0]) != len(batch.token):  # of a checkpoint, as all batches are alike
            _tell_lost_state(f"{len(state[0])} rows a device, and a batch {len(batch.token)}")
            state = None
        logits, after = self.net(batch.token, state)
        if self.net.carries_state:
            assert after is not None
            # what a step with a bad gradient leaves must not outlive it
            self._states[place] = tuple(part.detach().nan_to_num(0.0, 0.0, 0.0) for part in after)
        if logits.shape[2] != self.tokenizer.size:
            raise UserError(
                f"model.init_args.net: it returned {logits.shape[2]} logits a token, the vocabulary has "
                f"{self.tokenizer.size} tokens; leave vocabulary_size to the data."
            )
        return at_least_float32(logits)

    def _nats(self, logits: Tensor, target: Tensor) -> Tensor:
        """Negative log probability ``(B,)`` of each row."""
        losses = F.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE_LABEL, reduction="none"
        )  # (B T,)
        return losses.view_as(target).sum(dim=1)

    def predict_step(self, batch: TextBatch, batch_idx: int) -> TextScore:
        """The negative log probability of each text, in nats."""
        nats = self._nats(self._logits(batch, "predict"), batch.target)
        return TextScore(nats.float(), (batch.target != IGNORE_LABEL).sum(dim=1), batch.index)

    def continuations(self, prompt: Tensor, uniform: Tensor, sampling: Sampling) -> Iterator[Tensor]:
        """Draw one token after another; each is read once, with the state of all before it.

        Where a network can look back on T tokens only and has seen as many, it reads the later half of them anew.
        """
        longest = self.net.block_size
        tokens = prompt if longest is None else prompt[:, -longest:]
        fed, state = tokens, self.net.empty_state(len(prompt))
        for n in range(uniform.shape[1]):
            logits, after = self.net(fed, state)
            assert after is not None
            token = sampling.draw(at_least_float32(logits[:, -1]), uniform[:, n])  # (B,)
            yield token
            fed, state = token[:, None], after
            if longest is not None:
                tokens = torch.cat([tokens, fed], dim=1)
                if tokens.shape[1] > longest:
                    fed = tokens = tokens[:, -max(1, longest // 2) :]
                    state = self.net.empty_state(len(prompt))

    # Optimizer and checkpoint -----------------------------------------------------------------------------------------

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Hidden matrices, which are marked for Muon; the vocabulary's and other tables; and vectors.

        Vectors (biases, gains) do not decay.
        """
        layers = {id(p) for m in self.modules() if is_linear(m) or isinstance(m, nn.RNNBase) for p in m.parameters()}
        layers -= {id(p) for table in self.net.tables() for p in table.parameters()}
        kinds: dict[str, list[Tensor]] = {"hidden": [], "table": [], "vector": []}
        for parameter in self.parameters():
            if parameter.requires_grad:
                is_hidden = parameter.ndim == 2 and id(parameter) in layers
                kinds["vector" if parameter.ndim < 2 else "hidden" if is_hidden else "table"].append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": kinds["hidden"], "hidden": True},
            {"params": kinds["table"]},
            {"params": kinds["vector"], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that the next training batch goes on from, of all ranks' rows."""
        super().on_save_checkpoint(checkpoint)
        state = self._states.get("train")
        if state is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            checkpoint["carried_state"] = [gathered(self, part).cpu() for part in state]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this rank's rows of the state, on any number of ranks."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self.trainer.state.fn == "fit" and "carried_state" in checkpoint:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
            if rows := len(checkpoint["carried_state"][0]) % ranks:
                _tell_lost_state(f"{rows} rows more than {ranks} devices can share evenly")
                return
            own = [part.chunk(ranks)[rank] for part in checkpoint["carried_state"]]
            self._states["train"] = tuple(part.clone() for part in own)


def _tell_lost_state(why: str) -> None:
    rank_zero_warn(f"streams: the checkpoint's state has {why}; training goes on from an empty state.")
