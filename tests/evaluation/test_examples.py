"""The examples in docstrings say what happens."""

import doctest

import pytest

from mbml_lightning import seeds
from mbml_lightning.evaluation import adaptation, contexts, metrics, rollouts


@pytest.mark.parametrize(("module", "least"), [(seeds, 1), (adaptation, 1), (contexts, 1), (metrics, 3), (rollouts, 1)])
def test_examples_hold(module, least):
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted >= least
