"""Types of numeric arguments whose bounds the command's parser checks and its help shows.

They are `int` and `float` to Python and to type checkers, so that constructors take plain numbers. Bounds stand where
the argument stands; jsonargparse checks them with pydantic when a configuration is read.
"""

import math
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

PositiveInt = Annotated[int, Ge(1), Le(10**9)]
"""At least 1; nothing is counted beyond a billion."""
NonNegativeInt = Annotated[int, Ge(0), Le(10**9)]
"""At least 0."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What NumPy, PyTorch and Lightning take as a seed."""
PositiveFloat = Annotated[float, Gt(0), Lt(math.inf)]
"""Above 0 and finite."""
NonNegativeFloat = Annotated[float, Ge(0), Lt(math.inf)]
"""At least 0 and finite."""
UnitInterval = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1."""
