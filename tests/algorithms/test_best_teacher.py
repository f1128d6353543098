"""The best single teacher: who acts on which task, who is chosen, and that it then acts on all of them."""

import lightning as L
import pytest
import torch
from commands import command
from references import spread

from mbml_lightning.algorithms import BCQ, BestTeacher
from mbml_lightning.cli.main import main
from mbml_lightning.evaluation.rollouts import collect
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.seeds import EpisodeSeeds

K = 4


@pytest.fixture
def bcq() -> BCQ:
    """Teachers that differ."""
    method = BCQ("PointGoal", num_tasks=K, hidden=(8,), vae_hidden=(8,), standardise=True)
    method.inputs.follow(torch.randn(K, 9, 2) + torch.arange(K).view(K, 1, 1))
    return spread(method).requires_grad_(False)


def rolled(bcq: BCQ, by: int) -> BCQ:
    """Teachers of whom number i is number i + ``by`` of the others."""
    other = BCQ("PointGoal", num_tasks=K, hidden=(8,), vae_hidden=(8,), standardise=True)
    state = {name: x.roll(-by, 1 if ".q" in name else 0) for name, x in bcq.state_dict().items()}
    other.load_state_dict(state)
    return other


@pytest.fixture
def best(bcq, tmp_path) -> BestTeacher:
    content = {"state_dict": bcq.state_dict(), "hyper_parameters": dict(bcq.hparams)}
    record = {"method": "BCQ", "distribution": "PointGoal", "tasks": bcq.tasks.tolist()}
    Checkpoint.seal(content, record)
    torch.save(content, tmp_path / "last.ckpt")
    method = BestTeacher("PointGoal", str(tmp_path / "last.ckpt"))
    method.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    method.setup("validate")
    return method


def test_every_teacher_acts_on_every_task(bcq, best) -> None:
    seeds = EpisodeSeeds(0, "train", range(K), range(K))
    for by in range(K):  # teacher k + by on task k, in that teacher's trial
        (episode,) = collect(rolled(bcq, by).policy(), bcq.distribution, seeds, purpose="best teacher ")
        returns = (episode.transitions.rewards * episode.alive).sum(-1)
        for k in range(K):
            teacher = (k + by) % K
            assert best.returns[k, teacher].item() == pytest.approx(returns[k, teacher].item(), rel=1e-5)


def test_the_one_of_highest_mean_acts_on_all_tasks(bcq, best) -> None:
    teacher = max(range(K), key=lambda i: sum(best.returns[k, i].item() for k in range(K)))
    s, noise = torch.randn(7, 3, 2), torch.randn(7, 3, best.policy().noise_dim)  # of seven tasks, also unseen ones
    a = best.policy().act(s, None, noise)
    for j in range(7):
        of_each = bcq.policy().act(s[j].expand(K, 3, 2), None, noise[j].expand(K, 3, -1))
        torch.testing.assert_close(a[j], of_each[teacher])


def test_it_is_evaluated_on_train_and_unseen_tasks(experiment, tmp_path) -> None:
    main(command("best_teacher", experiment, f"--run={tmp_path}", "--evaluation.trials=2"))
    evaluation = Evaluation.load(tmp_path / "evaluation.json")
    assert {name: split.returns.shape[:2] for name, split in evaluation.splits.items()} == {
        "train": (5, 2),
        "test": (4, 2),
    }
    assert evaluation.made_of["parents"].keys() == {"teachers"}
