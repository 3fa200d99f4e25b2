"""The shapes of arrays in signatures, as jaxtyping writes them: ``Float[Array, "batch length dim"]``.

Importing jaxtyping takes a third as long as everything else in a first answer, and nothing here calls it. So only type
checkers see its types, and a process that has imported it before, as the tests have, which let it check each call.
Elsewhere an annotation is there to be read.
"""

import sys
from typing import TYPE_CHECKING, Annotated

__all__ = ["Float", "Integer", "Shaped"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Float, Integer, Shaped
else:
    Float = Integer = Shaped = Annotated
