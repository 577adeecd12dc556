"""Softmax and cross-entropy in one: C = -ln p[label], with gradient p - onehot(label)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Q, integers, rescale
from codegen.ops.base import LabelLoss, Numbers, ShapeError

_T = 26  # fraction bits of an exponent of 2
_P = 30  # fraction bits of a probability
_W = 12  # fraction bits of a class weight
_S = 16  # fraction bits of the share that smoothing takes
_INDEX = 5  # bits of an exponent that the table resolves; a polynomial does the rest
EXP2_TABLE = tuple(round(2 ** (31 - i / 32)) for i in range(32))
LOG2_TABLE = tuple(round(math.log2(1 + i / 64) * 2**_T) for i in range(65))
_LOG2_STEP = 25  # entries are 2**25 apart on a mantissa with 31 fraction bits
LOG2_E = round(math.log2(math.e) * 2**30)
LN_2 = round(math.log(2) * 2**32)

# Relative error of exp2: the cubic's remainder, the rounding of the exponent, and truncations.
_EXP2_ERROR = (math.log(2) / 32) ** 4 / 24 + math.log(2) * 2.0 ** (-_T - 1) + 6 * 2.0**-32
# Interpolating log2 costs at most h^2 / 8 * log2(e); then the loss is cut to its 20 fraction bits.
LOSS_ERROR = 2**-12 / 8 + 2.0**-LOSS_FRACTION + 2.0**-24


def exp2(t: int, fraction: int) -> int:
    """2 ** -(t / 2**26) with `fraction` fraction bits, for t >= 0."""
    rest = t & ((1 << (_T - _INDEX)) - 1)
    z = (rest * LN_2) >> _T  # 32 fraction bits from here on
    z2 = (z * z) >> 32
    z3 = (z2 * z) >> 32
    power = (1 << 32) - z + (z2 >> 1) - ((z3 * 43691) >> 18)
    product = EXP2_TABLE[(t >> (_T - _INDEX)) & 31] * power  # at most 2**63
    shift = 63 - fraction + (t >> _T)
    return 0 if shift > 63 else int((product + (1 << (shift - 1))) >> shift)


def log2(v: int, fraction: int) -> int:
    """log2(v / 2**fraction) with 26 fraction bits, for 2**fraction <= v < 2**32."""
    exponent = v.bit_length() - 1
    mantissa = (v << (31 - exponent)) & 0x7FFFFFFF
    low, high = LOG2_TABLE[mantissa >> _LOG2_STEP], LOG2_TABLE[(mantissa >> _LOG2_STEP) + 1]
    rest = mantissa & ((1 << _LOG2_STEP) - 1)
    return int(((exponent - fraction) << _T) + low + (((high - low) * rest) >> _LOG2_STEP))


def exp2_fraction(outputs: int) -> int:
    """Fraction bits such that a sum of `outputs` exponentials fits 32 bits."""
    return min(28, 31 - outputs.bit_length())


@dataclass(frozen=True)
class SoftmaxCrossEntropy(LabelLoss):
    """Keys: `class_weights` (1 each), `label_smoothing` (0), a share that goes to all labels.

    Weights are kept as multiples of 2**-12 and the share as one of 2**-16, in both systems.
    """

    kind: ClassVar[str] = "softmax_cross_entropy"
    uses_scratch: ClassVar[bool] = True

    ln_2: ClassVar[int] = LN_2
    log2_e: ClassVar[int] = LOG2_E
    class_weights: Numbers = ()
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= w <= 16 for w in self.class_weights):
            raise ShapeError(f"class_weights = {list(self.class_weights)}: each must be 0 to 16")
        if not 0 <= self.label_smoothing < 1:
            raise ShapeError(
                f"label_smoothing = {self.label_smoothing}: it must be at least 0 and below 1"
            )

    def accepts(self, outputs: int) -> None:
        super().accepts(outputs)
        if self.class_weights and len(self.class_weights) != outputs:
            raise ShapeError(
                f"there are {len(self.class_weights)} class_weights for {outputs} outputs"
            )

    @property
    def weights_q(self) -> tuple[int, ...]:
        """Class weights with 12 fraction bits."""
        return tuple(round(w * (1 << _W)) for w in self.class_weights)

    @property
    def smoothing_q(self) -> int:
        """The share with 16 fraction bits."""
        return min(round(self.label_smoothing * (1 << _S)), (1 << _S) - 1)

    def off_target(self, outputs: int) -> int:
        """What a label that is not the sample's is to have, with 30 fraction bits."""
        return ((self.smoothing_q << (_P - _S)) + outputs // 2) // outputs

    def on_target(self, outputs: int) -> int:
        return (1 << _P) - (self.smoothing_q << (_P - _S)) + self.off_target(outputs)

    def fraction(self, outputs: int) -> int:
        """Fraction bits of an exponential."""
        return exp2_fraction(outputs)

    def error_fraction(self, f: int) -> int:
        return _P + _W if self.class_weights else _P

    def error_bits(self) -> int:
        return _P + 1 + (_W + 4 if self.class_weights else 0)

    def allowance(self, outputs: int) -> float:
        """The exponentials' relative error, their roundings, and that of the quotient."""
        roundings = math.ldexp(outputs + 1, -exp2_fraction(outputs) - 1)
        weight = max(self.class_weights, default=1.0)
        return weight * (2 * _EXP2_ERROR + roundings + 2 * 2.0**-_P)

    def tables(self) -> dict[str, tuple[int, ...]]:
        tables = {"exp2_table": EXP2_TABLE, "log2_table": LOG2_TABLE}
        return tables | ({"class_weights": self.weights_q} if self.class_weights else {})

    def loss(self, x: Floats, t: Any) -> tuple[float, Floats]:
        shifted = x - x.max()
        surprise = np.log(np.exp(shifted).sum()) - shifted
        share = self.smoothing_q / (1 << _S)
        wanted = np.full(x.size, share / x.size)
        wanted[int(t)] += 1 - share
        weight = self.weights_q[int(t)] / (1 << _W) if self.class_weights else 1.0
        return weight * float(np.sum(wanted * surprise)), weight * (np.exp(-surprise) - wanted)

    def loss_int(self, x: Q, t: Any) -> tuple[int, Q]:
        fraction = exp2_fraction(x.q.size)
        distance = [int(d) for d in x.q.max() - x.q]
        exponent = [int(rescale(d * LOG2_E, x.f + 30 - _T)) for d in distance]
        powers = [exp2(v, fraction) for v in exponent]
        reciprocal = (1 << 62) // sum(powers)
        error = integers([(v * reciprocal + (1 << 31)) >> 32 for v in powers])
        error -= self.off_target(x.q.size)
        error[int(t)] -= self.on_target(x.q.size) - self.off_target(x.q.size)
        own = exponent[int(t)]
        if self.smoothing_q:
            mean = sum(exponent) // len(exponent)
            own += ((mean - own) * self.smoothing_q) >> _S
        bits = min(own + log2(sum(powers), fraction), (1 << 40) - 1)
        value = ((bits >> 8) * LN_2) >> (24 + _T - LOSS_FRACTION)
        if self.class_weights:
            value = (value * self.weights_q[int(t)]) >> _W
            error = error * self.weights_q[int(t)]
        return min(value, 2**31 - 1), Q(error, self.error_fraction(x.f))
