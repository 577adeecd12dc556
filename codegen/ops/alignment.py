"""What ops of two inputs share: one shape, and one exponent for two."""

import math

from codegen.fixedpoint import COMMON_ROOM, common_fraction
from codegen.ops.base import Products, Shape, ShapeError


def same_shape(kind: str, a: Shape, b: Shape) -> Shape:
    """The shape that both inputs have."""
    if a != b:
        raise ShapeError(
            f"{kind} needs inputs of one shape, these are {a} and {b}; a conv1d, conv2d or dense "
            "before one of them gives it the shape of the other"
        )
    return a


def aligned_products(terms: int) -> Products:
    """The bound of `terms` numbers, each widened to the exponent that both inputs share."""
    return Products(terms, ("x1",), more=COMMON_ROOM)


def alignment_error(a: int, b: int) -> float:
    """What the finer of two inputs loses where the coarser cannot be widened enough."""
    f = common_fraction(a, b)
    return math.ldexp(0.5, -f) if f < max(a, b) else 0.0
