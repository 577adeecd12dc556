"""What hard_sigmoid and hard_swish share: min(max(x / 6 + 1 / 2, 0), 1).

1/6 is kept as a multiple of 2**-30 in floats and integers.
"""

import numpy as np

from codegen.fixedpoint import Floats, Ints, narrow, rescale

FRACTION = 24  # of the gate and of its slope
SIXTH_FRACTION = 30
SIXTH_Q = round(2**SIXTH_FRACTION / 6)
SIXTH = SIXTH_Q / 2**SIXTH_FRACTION
CORNER = 3  # the gate is 0 below -3 and 1 above 3

# Largest error of gate_int: the rounding of the argument, that of the result, and 6 * SIXTH - 1.
GATE_ERROR: float = 2.0 ** -(FRACTION + 1) * (SIXTH + 1) + 2.0**-29


def gate(x: Floats) -> Floats:
    y: Floats = np.clip(x * SIXTH + 0.5, 0.0, 1.0)
    return y


def gate_int(v: Ints, f: int) -> Ints:
    """The gate of v * 2**-f with 24 fraction bits; twin of fxp_gate."""
    above = narrow(v, f - FRACTION, 32) + (CORNER << FRACTION)
    return rescale(np.clip(above, 0, 2 * CORNER << FRACTION) * SIXTH_Q, SIXTH_FRACTION)
