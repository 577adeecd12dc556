"""Numbers are dropped at random while training, and those that are kept become larger for it.

The mask is computed from the seed wherever it is needed, and stored nowhere.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codegen.fixedpoint import Floats, Ints, Q, hashed, integers
from codegen.ops.base import LayerOp, Products, Shape, ShapeError, Shapes, size

_RATE = 16  # fraction bits of the rate
_SCALE = 12  # of what is kept


@dataclass(frozen=True)
class Dropout(LayerOp):
    """Key: `rate`, the share that is dropped, 0 < rate < 1.

    It is kept as a multiple of 2**-16, and 1 / (1 - rate) as one of 2**-12, in both systems.
    """

    kind: ClassVar[str] = "dropout"
    training_only: ClassVar[bool] = True
    scale_fraction: ClassVar[int] = _SCALE
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ShapeError(f"rate = {self.rate}: it must be above 0 and below 1")

    @property
    def rate_q(self) -> int:
        """The rate with 16 fraction bits."""
        return min(max(round(self.rate * (1 << _RATE)), 1), (1 << _RATE) - 1)

    @property
    def scale_q(self) -> int:
        """What is kept is multiplied by this, which has 12 fraction bits."""
        return round((1 << (_RATE + _SCALE)) / ((1 << _RATE) - self.rate_q))

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def exponents(self, kernel: str) -> tuple[str, ...]:
        return self.reads(kernel)[:1]

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return Products(1, self.reads(kernel)[:1], (self.scale_q - 1).bit_length())

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["out"])

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return dict.fromkeys(self.reads(kernel)[:1], 0)

    def forward(self, x: Floats, seed: Any = 0) -> Floats:
        return x * np.ldexp(self._factors(seed, x.shape), -_SCALE)

    def forward_int(self, x: Q, seed: Any = 0) -> Q:
        return Q(integers(x.q * self._factors(seed, x.q.shape)), x.f + _SCALE)

    def grad_x(self, dy: Floats, seed: Any = 0) -> Floats:
        return self.forward(dy, seed)

    def grad_x_int(self, dy: Q, seed: Any = 0) -> Q:
        return self.forward_int(dy, seed)

    def _factors(self, seed: Any, shape: Shape) -> Ints:
        """What each number is multiplied by, with 12 fraction bits."""
        return integers(np.where(self.keeps(seed, shape), self.scale_q, 0))

    def keeps(self, seed: Any, shape: Shape) -> NDArray[np.bool_]:
        """Which numbers are kept."""
        draws = hashed(integers(seed) + np.arange(size(shape))) >> (32 - _RATE)
        return (draws >= self.rate_q).reshape(shape)
