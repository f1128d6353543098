"""MBML: multi-task batch reinforcement learning with metric learning (NeurIPS 2020), on PyTorch Lightning."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `import mbml_lightning` stays light: torch and Lightning are imported by who uses them
    import mbml_lightning.evaluation.agent
    import mbml_lightning.training.algorithm

__version__ = "0.1.0"


def load(
    run: str | Path,
    method: "type[mbml_lightning.training.algorithm.Algorithm] | None" = None,
    seed: int = 0,
) -> "mbml_lightning.evaluation.agent.Agent":
    """Load the policy of a finished run, ready to act in one environment and to infer its task.

    A task distribution of your own must be known by its name before, see `mbml_lightning.envs.register`.

    Args:
        run: Folder of the run, which holds ``last.ckpt``.
        method: Class of the method, if it is not one of `mbml_lightning.algorithms`.
        seed: Seed of the actions' and task identities' random numbers.

    Raises:
        ConfigurationError: If this process knows no distribution of its name.
        CheckpointError: If there is no such checkpoint, it is damaged, or its method is another or infers no task.
    """
    from mbml_lightning import algorithms
    from mbml_lightning.envs import recorded_distribution
    from mbml_lightning.errors import CheckpointError
    from mbml_lightning.evaluation.agent import Agent
    from mbml_lightning.files.checkpoints import Checkpoint

    checkpoint = Checkpoint.read(Path(run, "last.ckpt"))
    name = checkpoint.record["method"]
    made = method or getattr(algorithms, name, None)
    if made is None:
        raise CheckpointError(f"{checkpoint.path}: {name} is no method of this package: pass its class as `method`")
    checkpoint.check(method=made.__name__)
    hyper_parameters = checkpoint.content["hyper_parameters"].items()
    arguments = {key: value for key, value in hyper_parameters if not key.startswith("_")}
    family = recorded_distribution(checkpoint.record["distribution"])  # not by the path of a class
    trained = made(**arguments | {"distribution": family.name})
    trained.take_tasks(family.recorded_tasks(checkpoint.record, trained.split, trained.num_tasks))
    if trained.encoder is None:
        raise CheckpointError(f"{checkpoint.path}: {name} infers no task: load a run of a method that does")
    weights = checkpoint.state_dict.items()  # hooks only train; what they own is not needed to act
    trained.load_state_dict({key: value for key, value in weights if not key.startswith("hooks.")})
    return Agent(trained.policy(), trained.encoder, seed)
