"""Types of numeric arguments whose bounds the command's parser checks and its help shows.

They are `int` and `float` to Python and to type checkers, so that constructors take plain numbers. Bounds stand where
the argument stands; jsonargparse checks them with pydantic when a configuration is read.
"""

import math
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator


def _number(value: Any) -> Any:
    """Refuse true and false, which pydantic would take for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


class _NumberOnly(BeforeValidator):
    """A validator that ``--help`` shows in one word."""

    def __repr__(self) -> str:
        return "number"


Number = _NumberOnly(_number)

PositiveInt = Annotated[int, Ge(1), Le(10**9), Number]
"""At least 1; nothing is counted beyond a billion."""
NonNegativeInt = Annotated[int, Ge(0), Le(10**9), Number]
"""At least 0."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1), Number]
"""What NumPy, PyTorch and Lightning take as a seed."""
PositiveFloat = Annotated[float, Gt(0), Lt(math.inf), Number]
"""Above 0 and finite."""
NonNegativeFloat = Annotated[float, Ge(0), Lt(math.inf), Number]
"""At least 0 and finite."""
UnitInterval = Annotated[float, Ge(0), Le(1), Number]
"""From 0 to 1."""
