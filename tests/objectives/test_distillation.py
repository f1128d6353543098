"""Eq. 3 to 5 against loops."""

import pytest
import torch

from mbml_lightning.objectives.distillation import (
    candidate_distillation,
    perturbation_distillation,
    value_distillation,
)

K, B, A = 3, 5, 2


def test_value_distillation_is_the_mean_over_tasks_and_rows() -> None:
    q, teacher_q = torch.randn(2, K, B)
    tasks = []
    for i in range(K):
        tasks.append(sum((teacher_q[i, t].item() - q[i, t].item()) ** 2 for t in range(B)) / B)
    assert value_distillation(q, teacher_q).item() == pytest.approx(sum(tasks) / K)


@pytest.mark.parametrize("distillation", [candidate_distillation, perturbation_distillation])
def test_actions_are_averaged_over_dimensions_too(distillation) -> None:
    student, teacher = torch.randn(2, K, B, A)
    total = 0.0
    for i in range(K):
        for t in range(B):
            total += sum((teacher[i, t, d].item() - student[i, t, d].item()) ** 2 for d in range(A)) / A
    assert distillation(student, teacher).item() == pytest.approx(total / (K * B))


@pytest.mark.parametrize("distillation", [value_distillation, candidate_distillation, perturbation_distillation])
def test_students_descend_towards_their_teachers(distillation) -> None:
    shape = (K, B) if distillation is value_distillation else (K, B, A)
    student, teacher = torch.zeros(shape, requires_grad=True), torch.ones(shape)
    distillation(student, teacher).backward()
    assert (student.grad < 0).all()
    assert distillation(teacher, teacher).item() == 0.0
