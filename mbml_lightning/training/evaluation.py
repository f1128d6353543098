"""When a method is evaluated while Lightning trains or validates it."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mbml_lightning import ranks
from mbml_lightning.training.evaluator import Evaluator, method_of
from mbml_lightning.training.stopping import STOP, is_over


class OnlineEvaluation(Evaluator, Callback):
    """Adaptation to training and unseen tasks whenever Lightning validates.

    Args and errors are those of `Evaluator`.
    """

    evaluated: tuple[int, int] | None = None  # the step of the last whole evaluation, and its trials
    left_at: int | None = None  # the step whose evaluation a signal ended

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning keeps in a checkpoint, so that a resumed run repeats an interrupted evaluation."""
        return {"left_at": self.left_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back when Lightning resumes from the checkpoint."""
        self.left_at = state_dict["left_at"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the actors that collect contexts when a run begins, so that a missing one is named before any work."""
        self.read_collectors(method_of(trainer))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate whenever Lightning validates, but not in its sanity check before the training."""
        if self.splits and not trainer.sanity_checking:
            self.evaluate(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Repeat, before the first block of a resumed run, the evaluation that a signal interrupted."""
        if self.left_at == trainer.global_step:
            self.evaluate(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the last weights of a training, if no evaluation fell on its last block or it had fewer trials."""
        if self.ends_with_evaluation(trainer) and self.evaluated != (trainer.global_step, self.trials):
            self.evaluate(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate in a run that is resumed after its last update, whose last evaluation was interrupted.

        Lightning then skips the training with its hooks; it calls this one at the end of any run.
        """
        if self.ends_with_evaluation(trainer):
            method = method_of(trainer)
            weights, last = method.weights_digest(), self.protocols_of(method)[-1]
            if not ranks.gather(self.is_saved(last, weights, self.trials))[0]:
                self.evaluate(trainer)

    def ends_with_evaluation(self, trainer: L.Trainer) -> bool:
        """Tell whether a training is over and its weights are to be evaluated; asked on all ranks together.

        It is over when all updates are done or a callback ended it, but not when time or a signal did.
        """
        over = trainer.global_step >= trainer.max_steps or self.is_ended_early(trainer)
        return bool(self.splits) and trainer.enable_validation and over and not STOP.agreed()

    def is_ended_early(self, trainer: L.Trainer) -> bool:
        """Tell whether a callback such as Lightning's `EarlyStopping` has found that more updates do not help.

        Ranks, whose clocks differ, agree that none of them was ended by its time.
        """
        timed = any(map(is_over, trainer.callbacks))  # type: ignore[attr-defined]
        return trainer.should_stop and not any(ranks.gather(timed))

    def evaluate(self, trainer: L.Trainer) -> None:
        """Evaluate, and keep the step at which this ended or was interrupted."""
        goes_on = trainer.global_step < trainer.max_steps and not self.is_ended_early(trainer)
        trials = self.trials_while_training if trainer.state.fn == "fit" and goes_on else self.trials
        whole = self.evaluate_all(trainer, trials)
        self.left_at = None if whole else trainer.global_step
        self.evaluated = (trainer.global_step, trials) if whole else self.evaluated
