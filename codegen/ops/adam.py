"""Adam: m and root^2 are running means of g and g^2, w <- w - rate_t * m / (root + epsilon).

Kingma and Ba, "Adam: a method for stochastic optimization", 2015: the order of computation at the
end of section 2, where rate_t = rate * sqrt(1 - beta2^t) / (1 - beta1^t) corrects both biases.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q, Rate
from codegen.ops.base import Place, Slots
from codegen.ops.moments import (
    MEAN_FRACTION,
    SLOT_ALLOWANCE,
    SQUARE_FRACTION,
    Moments,
    kept,
    mean,
    quotient,
    root_mean_square,
)

_ONE = 1 << 31  # of a power of beta


def power(base: int, n: int) -> int:
    """base**n with 31 fraction bits, by squaring; each of its products is rounded to nearest."""
    result = _ONE
    while n:
        if n & 1:
            result = (result * base + (1 << 30)) >> 31
        base, n = (base * base + (1 << 30)) >> 31, n >> 1
    return result


@dataclass(frozen=True)
class Adam(Moments):
    """Keys: `beta1` (a multiple of 2**-15 in both systems), `beta2` (of 2**-20) and `epsilon`."""

    kind: ClassVar[str] = "adam"
    slots: ClassVar[tuple[str, ...]] = ("m", "root")
    slot_allowance: ClassVar[tuple[float, ...]] = (SLOT_ALLOWANCE, SLOT_ALLOWANCE)
    words: ClassVar[int] = 2  # one rounds m and the weight, the other the root
    quotient_fraction: ClassVar[int] = 15
    beta1: float = 0.9
    beta2: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_beta("beta1", self.beta1)
        self.check_beta("beta2", self.beta2)

    @property
    def beta1_q(self) -> int:
        """beta1 with 15 fraction bits."""
        return kept(self.beta1, MEAN_FRACTION)

    @property
    def beta2_q(self) -> int:
        """beta2 with 20 fraction bits."""
        return kept(self.beta2, SQUARE_FRACTION)

    @property
    def _betas(self) -> tuple[float, float]:
        return self.beta1_q / 2**MEAN_FRACTION, self.beta2_q / 2**SQUARE_FRACTION

    def factor(self, update: int) -> float:
        beta1, beta2 = self._betas
        return math.sqrt(1 - beta2 ** (update + 1)) / (1 - beta1 ** (update + 1))

    def factor_int(self, update: int) -> int:
        n = min(update + 1, 2**32 - 1)
        lack1 = _ONE - power(self.beta1_q << (31 - MEAN_FRACTION), n)
        lack2 = _ONE - power(self.beta2_q << (31 - SQUARE_FRACTION), n)
        root = math.isqrt(min(lack2 << 1, 2**32 - 1))  # 16 fraction bits
        return (root << 31) // lack1

    def track(self, g: Floats, slots: Slots, rate: float) -> Slots:
        beta1, beta2 = self._betas
        m, root = slots
        return beta1 * m + (1 - beta1) * g, np.sqrt(beta2 * root**2 + (1 - beta2) * g**2)

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        m, root = slots
        change: Floats = -rate * m / (root + self.epsilon)
        return change

    def update_int(
        self, w: Ints, g: Q, slots: Slots, draws: Slots, rate: Rate, place: Place
    ) -> tuple[Ints, Slots]:
        taken = self.gradient_int(g, place.slots_f)
        m = mean(slots[0], taken, self.beta1_q, draws[0] & 0x7FFF)
        root = root_mean_square(slots[1], taken, self.beta2_q, draws[1] >> 16)
        epsilon = self.epsilon_int(place.slots_f, place.batch)
        ratio = quotient(m << MEAN_FRACTION, root + epsilon)
        return self.moved(w, ratio, draws[0] >> 16, rate, place), (m, root)
