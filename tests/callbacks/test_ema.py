from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.ema import EMA
from toolkit.errors import UserError

State = dict[str, Tensor]
STEPS = 3  # an epoch


class Tiny(LightningModule):
    """A BatchNorm between two layers, so there are floating and integer buffers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
        self.validated: list[State] = []
        self.tested: State = {}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.net(batch[0].to(self.dtype)) - batch[1]).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validated.append(copy(self))
        self.log("val/loss", float(len(self.validated)))  # the first is the best

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.tested = copy(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class History(Callback):
    """The weights in training after each step."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.states.append(copy(pl_module))


def copy(module: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def loader() -> DataLoader:
    data = torch.randn(4 * STEPS, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(data[:, :3], data[:, 3:]), batch_size=4)


def val_loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(2, 3), torch.zeros(2, 1)), batch_size=2)


def fit(
    folder: Path, ema: EMA, epochs: int = 2, ckpt: Path | None = None, **options: Any
) -> tuple[Trainer, Tiny, list[State]]:
    history, tiny = History(), Tiny()
    best = ModelCheckpoint(folder, "best", monitor="val/loss")
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    trainer = Trainer(max_epochs=epochs, callbacks=[best, last, ema, history], logger=False, accelerator="cpu",
                      enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip
    trainer.fit(tiny, loader(), val_loader(), ckpt_path=ckpt, weights_only=True)
    return trainer, tiny, history.states


def read(file: Path) -> dict[str, Any]:
    return torch.load(file, weights_only=True)


def averaged(states: list[State], decay: float, due: set[int]) -> State:
    """By hand: the due states (steps from 1) in turn; the first is copied, whole numbers always are."""
    average: State | None = None
    for step, state in enumerate(states, 1):
        if step not in due:
            continue
        if average is None:
            average = dict(state)
        for name, value in state.items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value
            else:
                average[name] = value
    assert average is not None
    return average


def assert_close(a: State, b: State) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def assert_equal(a: State, b: State) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ema", "due"),
    [
        (EMA(decay=0.7), {1, 2, 3, 4, 5, 6}),
        (EMA(decay=0.7, update_every_n_steps=2), {2, 4, 6}),
        (EMA(decay=0.7, start_step=4), {4, 5, 6}),
        (EMA(decay=0.7, start_step=4, update_every_n_steps=2), {4, 6}),
        (EMA(decay=0.0), {6}),
    ],
)
def test_average_is_the_closed_form(ema: EMA, due: set[int], tmp_path: Path) -> None:
    _, tiny, states = fit(tmp_path, ema)
    assert len(states) == 2 * STEPS
    expected = averaged(states, 0.7, due)
    assert_close(copy(tiny), expected)
    assert int(tiny.net[1].num_batches_tracked) == 2 * STEPS
    last = read(tmp_path / "last.ckpt")
    assert_close(last["state_dict"], expected)  # with the last update that was due
    assert_equal(last["current_model_state"], states[-1])
    assert not torch.allclose(expected["net.0.weight"], states[0]["net.0.weight"])


def test_before_the_start_the_average_is_the_current_weights(tmp_path: Path) -> None:
    _, tiny, states = fit(tmp_path, EMA(decay=0.5, start_step=5), num_sanity_val_steps=1)
    sanity, first, second = tiny.validated
    assert_equal(sanity, copy(Tiny()))
    assert_equal(first, states[STEPS - 1])
    assert_close(second, averaged(states, 0.5, {5, 6}))
    best = read(tmp_path / "best.ckpt")
    assert_equal(best["state_dict"], states[STEPS - 1])
    assert_equal(best["current_model_state"], states[STEPS - 1])


def test_a_start_beyond_the_end_leaves_the_weights(tmp_path: Path) -> None:
    _, tiny, states = fit(tmp_path, EMA(start_step=100))
    assert_equal(copy(tiny), states[-1])


def test_validation_uses_the_average_and_training_goes_on_from_the_weights(tmp_path: Path) -> None:
    _, tiny, states = fit(tmp_path / "ema", EMA(decay=0.9), num_sanity_val_steps=0)
    assert_close(tiny.validated[0], averaged(states[:STEPS], 0.9, {1, 2, 3}))
    assert_equal(read(tmp_path / "ema" / "best.ckpt")["state_dict"], tiny.validated[0])
    _, _, plain = fit(tmp_path / "plain", EMA(start_step=100), num_sanity_val_steps=0)
    assert_equal(states[-1], plain[-1])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(("start", "every"), [(0, 1), (4, 1), (2, 2), (8, 1)])
def test_resumed_equals_uninterrupted_bit_for_bit(start: int, every: int, tmp_path: Path) -> None:
    options = {"decay": 0.6, "start_step": start, "update_every_n_steps": every}
    fit(tmp_path / "whole", EMA(**options), 4)
    fit(tmp_path / "half", EMA(**options), 2)
    fit(tmp_path / "rest", EMA(**options), 4, tmp_path / "half" / "last.ckpt")
    whole, half = read(tmp_path / "whole" / "last.ckpt"), read(tmp_path / "rest" / "last.ckpt")
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert_equal(whole[key], half[key])
    assert whole["global_step"] == half["global_step"] == 4 * STEPS


class SaveDuringValidation(Callback):
    """Sees the module while it holds the average."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.file)


def test_checkpoints_at_odd_times(tmp_path: Path) -> None:
    """Within validation the module holds the average, and after the end too."""
    history, tiny, during = History(), Tiny(), tmp_path / "during.ckpt"
    trainer = Trainer(max_epochs=1, callbacks=[SaveDuringValidation(during), EMA(decay=0.5), history], logger=False,
                      accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
                      enable_checkpointing=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(tiny, loader(), val_loader())
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    for file in (during, tmp_path / "after.ckpt"):
        assert_close(read(file)["state_dict"], averaged(history.states, 0.5, {1, 2, 3}))
        assert_equal(read(file)["current_model_state"], history.states[-1])


def test_a_test_after_the_fit_uses_the_average_silently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, tiny, _ = fit(tmp_path, EMA(decay=0.5))
    caplog.clear()
    trainer.test(tiny, val_loader(), ckpt_path=tmp_path / "best.ckpt", weights_only=True, verbose=False)
    assert_equal(tiny.tested, read(tmp_path / "best.ckpt")["state_dict"])
    trainer.validate(tiny, val_loader(), verbose=False)
    assert_equal(tiny.validated[-1], read(tmp_path / "best.ckpt")["state_dict"])
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert "averag" not in caplog.text.lower()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_checkpoint_without_average_starts_one(tmp_path: Path) -> None:
    trainer = Trainer(max_epochs=1, logger=False, accelerator="cpu", enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=tmp_path, callbacks=EMA(start_step=10**6))  # fmt: skip
    trainer.fit(Tiny(), loader(), val_loader())
    plain = read(next(tmp_path.rglob("*.ckpt")))
    for key in ("averaging_state", "current_model_state"):
        del plain[key]
    torch.save(plain, tmp_path / "plain.ckpt")
    _, tiny, states = fit(tmp_path / "ema", EMA(decay=0.5), 2, tmp_path / "plain.ckpt")
    assert len(states) == STEPS
    assert_close(copy(tiny), averaged(states, 0.5, {1, 2, 3}))


def test_the_average_has_the_precision_of_the_module(tmp_path: Path) -> None:
    _, tiny, states = fit(tmp_path, EMA(decay=0.5), precision="64-true")
    assert tiny.net[0].weight.dtype == torch.float64
    expected = averaged(states, 0.5, set(range(1, 2 * STEPS + 1)))
    torch.testing.assert_close(read(tmp_path / "last.ckpt")["state_dict"], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "value"), [("decay", 1.0), ("decay", -0.1), ("update_every_n_steps", 0), ("start_step", -1)]
)
def test_wrong_numbers(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"EMA.*{name}"):
        EMA(**{name: value})


def test_checkpoints_of_weights_only_are_refused(tmp_path: Path) -> None:
    trainer = Trainer(max_epochs=1, callbacks=[EMA(), ModelCheckpoint(tmp_path, save_weights_only=True)], logger=False,
                      accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    with pytest.raises(UserError, match="save_weights_only"):
        trainer.fit(Tiny(), loader(), val_loader())


def test_a_tied_weight_has_one_average(tmp_path: Path) -> None:
    class Tied(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.tied = self.net[3]

    tiny, history = Tied(), History()
    trainer = Trainer(max_epochs=2, callbacks=[EMA(decay=0.5), history], logger=False, accelerator="cpu",
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(tiny, loader(), val_loader())
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    saved = read(tmp_path / "after.ckpt")
    assert_close(saved["state_dict"], averaged(history.states, 0.5, {1, 2, 3, 4, 5, 6}))
    assert_equal(saved["current_model_state"], history.states[-1])
