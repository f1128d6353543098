"""The faster matrix products are used only where they are float32."""

import math

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
    """Against exact sums: float32 is off by about 1e-6, factors rounded to bf16 would be off by about 1e-2."""
    torch.manual_seed(0)
    precision.use_fastest_float32()
    a, b = torch.randn(64, 400, dtype=torch.float32), torch.randn(400, 300, dtype=torch.float32)
    y = a @ b
    columns = b.T.tolist()
    for i, row in enumerate(a[:8].tolist()):
        for j in range(0, 300, 30):
            exact = math.fsum(p * q for p, q in zip(row, columns[j], strict=True))
            assert y[i, j].item() == pytest.approx(exact, abs=2e-5)


def test_products_of_coarser_factors_are_noticed():
    assert precision.product_error() < precision.LARGEST_ERROR
    with torch.autocast("cpu", torch.bfloat16):
        assert precision.product_error() > 1e3 * precision.LARGEST_ERROR


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
