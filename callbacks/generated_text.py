"""What a language model writes while it learns."""

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.media import Table, log_media
from toolkit.errors import UserError
from toolkit.language.text_generator import Sampling, TextGenerator


class GeneratedText(Callback):
    """A table of texts after each validation: the same draws each time, so that one sees the model change.

    With the callback `EMA` they are those of the average. The draws are keyed: writing moves no generator.

    Args:
        prompts: What the texts begin with.
        count: Texts of each prompt.
        tokens: How many at most.
        temperature: See `toolkit.language.text_generator.Sampling`.
        top_k: Likewise.
        top_p: Likewise.
        every_n_epochs: How often.
    """

    def __init__(
        self,
        prompts: Sequence[str] = ("",),
        count: int = 4,
        tokens: int = 100,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        every_n_epochs: int = 1,
    ) -> None:
        if count < 1 or tokens < 1 or every_n_epochs < 1 or not prompts:
            raise UserError(
                "GeneratedText: need a prompt, and count, tokens and every_n_epochs of at least 1, got "
                f"{list(prompts)}, {count}, {tokens} and {every_n_epochs}."
            )
        self.prompts, self.count, self.tokens = list(prompts), count, tokens
        self.sampling = Sampling(temperature, top_k, top_p)
        self.every_n_epochs = every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other tasks."""
        if not isinstance(pl_module, TextGenerator):
            raise UserError(
                f"GeneratedText: {type(pl_module).__name__} writes no text; remove it from trainer.callbacks."
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        if trainer.sanity_checking or trainer.fast_dev_run or (trainer.current_epoch + 1) % self.every_n_epochs:  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, TextGenerator)
        rows = [
            [prompt, text]
            for prompt in self.prompts
            for text in pl_module.write(prompt, self.tokens, self.count, seed=0, sampling=self.sampling)
        ]
        log_media(trainer, "val/samples", Table(["prompt", "text"], rows))
