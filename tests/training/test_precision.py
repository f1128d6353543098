"""The faster matrix products are used only where they are float32."""

import pytest
import torch

from mbml_lightning.training import precision


@pytest.fixture(autouse=True)
def untouched():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # another test of this process may have run a command
    yield
    torch.set_float32_matmul_precision(before)


def test_products_stay_float32():
    precision.use_fastest_float32()
    assert precision.product_error() < 1e-6


def test_coarse_products_are_refused(monkeypatch):
    monkeypatch.setattr(precision, "product_error", lambda: 2e-3)
    precision.use_fastest_float32()
    assert torch.get_float32_matmul_precision() == "highest"


def test_exact_products_are_taken_and_a_choice_is_kept(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "product_error", lambda: 3e-7)
    precision.use_fastest_float32()
    assert torch.get_float32_matmul_precision() == "medium"
    monkeypatch.setattr(precision, "product_error", lambda: 1.0)
    precision.use_fastest_float32()
    assert torch.get_float32_matmul_precision() == "medium"
