"""The Lightning callback that logs whether an encoder reads rewards, and keeps the posteriors that show it."""

import logging
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from mbml_lightning.arguments import PositiveInt, Seed
from mbml_lightning.data.relabelling import OracleRelabeller, under_every_task
from mbml_lightning.data.rows import Rows
from mbml_lightning.errors import RelabellingError, ResultsError
from mbml_lightning.evaluation.metrics import RewardReading
from mbml_lightning.files.posteriors import Means, load_posteriors
from mbml_lightning.files.writing import write_arrays
from mbml_lightning.nets.task_encoder import product
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.types import Gaussian, Transitions


class RewardSensitivity(Callback):
    """Logs ``val/reward_sensitivity`` and ``val/rewards_followed`` at every evaluation and writes ``posteriors.npz``.

    A few contexts of each training task get every other task's true rewards; states and actions stay. Nothing
    is measured where the data do not tell true rewards, or tasks do not differ in them.

    Args:
        folder: Where ``posteriors.npz`` goes: posterior means by ``before_own`` and ``after_own`` ``(K, N, Z)``,
            ``before_relabelled`` and ``after_relabelled`` ``(K, K, N, Z)``.
        contexts: N, contexts of each task.
        seed: Seed of the contexts' rows, the same at every evaluation.
    """

    def __init__(self, folder: str, contexts: PositiveInt = 8, seed: Seed = 0) -> None:
        self.folder, self.contexts, self.seed = Path(folder), contexts, seed
        self.rows: Transitions | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw contexts before the first block; unless the run is resumed, keep their posteriors before training."""
        if not (isinstance(pl_module, Algorithm) and trainer.is_global_zero):
            return
        if pl_module.encoder is None or pl_module.num_tasks < 2:
            return
        try:
            self.rows = self.swapped(pl_module.rows, pl_module)
        except RelabellingError as error:
            logging.getLogger(__name__).info("reward sensitivity is not measured: %s", error)
            return
        if pl_module.global_step == 0:
            self.save("before", *self.posteriors(pl_module))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure and log whenever Lightning validates, with the encoder of the updates so far."""
        if self.rows is None or not isinstance(pl_module, Algorithm):
            return
        own, swapped = self.posteriors(pl_module)
        metric = RewardReading(sync_on_compute=False)  # rank 0 alone measures
        metric.update(own, swapped)
        pl_module.write({f"val/{name}": float(value) for name, value in metric.compute().items()})
        self.save("after", own, swapped)

    def swapped(self, rows: Rows, module: Algorithm) -> Transitions:
        """Make contexts c_j with the rewards of task i at ``[i, j]``, ``(K, K, N x C)``; the diagonal has its own."""
        generator = torch.Generator().manual_seed(self.seed)
        count = self.contexts * module.context_size
        index = torch.randint(rows.count, (module.num_tasks, count), generator=generator).to(rows.packed.device)
        few = rows.select(index)
        oracle = OracleRelabeller()
        oracle.prepare(few, module.distribution.name)
        contexts = few.unpack(few.packed)
        return under_every_task(contexts, oracle(contexts, torch.arange(count, device=index.device).expand_as(index)))

    @torch.no_grad()
    def posteriors(self, module: Algorithm) -> tuple[Gaussian, Gaussian]:
        """Infer the task from own contexts, ``(K, N, Z)``, and from those with swapped rewards, ``(K, K, N, Z)``."""
        assert self.rows is not None
        assert module.encoder is not None
        factors = module.encoder(self.rows)  # (K, K, N x C, Z)
        posterior = product(Gaussian(*(x.unflatten(2, (self.contexts, -1)) for x in factors)))
        return Gaussian(*(x.diagonal().movedim(-1, 0) for x in posterior)), posterior

    def save(self, when: Literal["before", "after"], own: Gaussian, swapped: Gaussian) -> None:
        """Replace this moment's posteriors in ``posteriors.npz``, whole or not at all."""
        path, kept = self.folder / "posteriors.npz", dict[str, Means]()
        if when == "after" and path.exists():
            try:
                kept = load_posteriors(path)
            except ResultsError as error:
                logging.getLogger(__name__).warning("%s: the posteriors before training are lost", error)
        kept[when] = Means(*(x.mean.float().cpu().numpy() for x in (own, swapped)))
        write_arrays(path, {f"{w}_{kind}": x for w, means in kept.items() for kind, x in means._asdict().items()})
