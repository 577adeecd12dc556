"""The recurrence of a GRU, and errors back through time; x is W x + b of all gates and steps.

Its state has, for every step, the rows z, r, n, h (see gru.py). All of them lie in [-1, 1], so one
format fits; backward needs nothing else: it computes Un h' + c anew.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import (
    BIAS_FRACTION,
    Floats,
    Ints,
    Q,
    accumulated,
    dot,
    integers,
    narrow,
    rescale,
)
from codegen.ops import curves
from codegen.ops.base import Parameter, Products, Recurrence, Shape, Shapes
from codegen.ops.recurrence import (
    ANY_ERROR,
    ARGUMENT_FRACTION,
    CARRIED_BITS,
    ERROR_ROOM,
    Cell,
    argument,
    argument_error,
    argument_room,
    backwards,
    carried,
    error_at,
    half,
    products,
)

_STATE_FRACTION = 30  # of every accumulator of the state
SLOPE_FRACTION = 26  # of derivatives, which have 32 bits: they may reach 32
CANDIDATE_FRACTION = 20  # of Un h' + c where it is a factor, which has 32 bits: it may reach 2**11


@dataclass(frozen=True)
class GruCell(Cell):
    """Placed by gru. x: (steps, 3 * units), state: (steps, 4, units), u: (3 * units, units)."""

    kind: ClassVar[str] = "gru_cell"
    slope_fraction: ClassVar[int] = SLOPE_FRACTION
    candidate_fraction: ClassVar[int] = CANDIDATE_FRACTION

    def output_shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        return (x[0], 4, x[1] // 3)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        units = inputs[0][1] // 3
        fans = {"fan_in": units, "fan_out": units}
        return {
            "u": Parameter((3 * units, units), "weight", **fans),
            "c": Parameter((units,), "bias", **fans),
        }

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return {
            "forward": lambda: Products(shapes["out"][-1], ("u", "out")),
            "grad_x": lambda: Products(shapes["out"][-1], ("u", "out", "y")),
            "grad_u": lambda: Products(max(1, shapes["y"][0] - 1), ("dx", "y", "y")),
            "grad_c": lambda: Products(shapes["y"][0], ("dx", "y")),
        }[kernel]()

    def accumulator_bits(self, kernel: str, total: int, with_bias: int) -> int:
        """forward: Un h' + c times r; grad_x: what was carried times a derivative, both 32 bits."""
        room = {
            "forward": max(argument_room(total), with_bias + 15),
            "grad_x": 2 * (CARRIED_BITS - 1),
        }
        return room.get(kernel, with_bias)

    def stored_bits(self, kernel: str) -> int | None:
        """Gates, candidates and states are at most 1; errors are products, as above."""
        return {"forward": 30, "grad_x": 2 * (CARRIED_BITS - 1)}.get(kernel)

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        steps, _, units = shapes.get("y", shapes["out"])
        matrices = {"forward": 3, "grad_x": 4, "grad_u": 3, "grad_c": 0}[kernel]
        return (steps - 1) * matrices * units * units

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"tanh_table": curves.TANH_TABLE} if kernel == "forward" else {}

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        """Errors times r in two halves: those of a step, or of all steps for a row of U."""
        if kernel == "grad_u":
            return 2 * max(1, shapes["y"][0] - 1)
        return 2 * shapes["y"][-1] if kernel == "grad_x" else 0

    def scratch_like(self, kernel: str, shapes: Shapes) -> tuple[str, ...]:
        return {"grad_u": ("dx",), "grad_x": ("dy",)}.get(kernel, ())

    def tile_size(self, kernel: str, shapes: Shapes) -> int:
        """The error of h on its way back."""
        return shapes["y"][-1] if kernel == "grad_x" else 0

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        """A step of x is shorter than one of the state, one of dy is shorter than one of dx."""
        if kernel == "forward":
            return {"x": shapes["out"][-1] * (shapes["out"][0] - 1)}
        if kernel == "grad_x" and len(shapes["dy"]) == 2:
            return {"dy": 2 * shapes["dy"][1]}
        return {}

    # forward

    def forward(self, x: Floats, u: Floats, c: Floats, *, shape: Shape) -> Recurrence:
        steps, _, units = shape
        h = np.zeros(units)
        for t, row in enumerate(x.reshape(steps, 3, units)):
            part = (u @ h).reshape(3, units)
            z, r = yield (t, slice(2)), 0.5 + 0.5 * np.tanh(0.5 * (row[:2] + part[:2]))
            n = yield (t, 2), np.tanh(row[2] + r * (part[2] + c))
            h = yield (t, 3), n + z * (h - n)

    def forward_int(self, x: Q, u: Q, c: Q, *, shape: Shape, out_f: int) -> Recurrence:
        steps, _, units = shape
        h = Q(np.zeros(units, np.int64), out_f)
        for t, row in enumerate(x.q.reshape(steps, 3, units)):
            part = products(h, u).reshape((3, units))
            gates = argument(Q(row[:2], x.f), Q(part.q[:2], part.f))
            error = curves.TANH_ERROR / 2 + argument_error(x.f, part.f)
            gates = (1 << curves.FRACTION) + curves.tanh_int(gates, ARGUMENT_FRACTION + 1)
            z, r = (yield (t, slice(2)), _state(gates, curves.FRACTION + 1), error).q

            g, rounding = _candidate(part, c)
            n = argument(Q(row[2], x.f), Q(g.q * r, g.f + out_f))
            error = curves.TANH_ERROR + argument_error(x.f, g.f + out_f) + rounding
            n = curves.tanh_int(n, ARGUMENT_FRACTION)
            n = (yield (t, 2), _state(n, curves.FRACTION), error).q

            h = yield (t, 3), _state((n << out_f) + z * (h.q - n), 2 * out_f), 0.0

    # backward: e is the error of h, dx those of the arguments of z, r and n

    def grad_x(self, dy: Floats, y: Floats, u: Floats, c: Floats, *, shape: Shape) -> Recurrence:
        steps, units = len(y), y.shape[-1]
        e = yield None, error_at(dy, steps - 1, steps)
        for t in backwards(steps):
            z, r, n, _ = y[t]
            before = y[t - 1, 3] if t else np.zeros(units)
            g = u[2 * units :] @ before + c
            slope_z = (before - n) * z * (1 - z)
            slope_n = (1 - z) * (1 - n * n)
            slope_r = slope_n * g * r * (1 - r)
            dx = yield t, np.concatenate([e * slope_z, e * slope_r, e * slope_n])
            if t:
                back = u.T @ (dx.reshape(3, units) * [np.ones(units), np.ones(units), r]).ravel()
                e = yield None, error_at(dy, t - 1, steps) + e * z + back

    def grad_x_int(self, dy: Q, y: Q, u: Q, c: Q, *, shape: Shape, out_f: int) -> Recurrence:
        steps, units = len(y.q), y.q.shape[-1]
        f = dy.f + ERROR_ROOM
        e = yield None, Q(_outside(dy, steps - 1, steps), f), 0.0
        for t in backwards(steps):
            before = Q(y.q[t - 1, 3] if t else np.zeros(units, np.int64), y.f)
            g, rounding = _candidate(products(before, Q(u.q[2 * units :], u.f)), c)
            slopes, error = _slopes(y.q[t], before, g, rounding)
            errors = (np.abs(e.value) * error).ravel()
            dx = yield t, Q((e.q * slopes).ravel(), f + SLOPE_FRACTION), errors
            if t:
                scaled = Q((dx.q.reshape(3, units) * _scales(y, t)).ravel(), dx.f + y.f)
                back, error = carried(products(scaled, Q(u.q.T, u.f)), f)
                own = rescale(e.q * y.q[t, 0], y.f)
                total = _outside(dy, t - 1, steps) + own + back
                e = yield None, Q(total, f), error + half(f)

    def grad_u(self, dx: Floats, y: Floats) -> Floats:
        steps, units = len(y), y.shape[-1]
        errors = dx.reshape(steps, 3, units).copy()
        errors[:, 2] *= y[:, 1]
        du: Floats = errors[1:].reshape(steps - 1, 3 * units).T @ y[:-1, 3]
        return du

    def grad_u_int(self, dx: Q, y: Q) -> Q:
        steps, units = len(y.q), y.q.shape[-1]
        errors = dx.q.reshape(steps, 3, units) * np.array([_scales(y, t) for t in range(steps)])
        errors = errors[1:].reshape(steps - 1, 3 * units)
        return Q(dot(errors.T, y.q[:-1, 3].T), dx.f + 2 * y.f)

    def grad_c(self, dx: Floats, y: Floats) -> Floats:
        dc: Floats = (dx.reshape(len(y), 3, -1)[:, 2] * y[:, 1]).sum(axis=0)
        return dc

    def grad_c_int(self, dx: Q, y: Q) -> Q:
        parts = dx.q.reshape(len(y.q), 3, -1)[:, 2] * y.q[:, 1]
        return Q(integers(parts.sum(axis=0)), dx.f + y.f)


def _state(q: Ints, f: int) -> Q:
    return Q(q << (_STATE_FRACTION - f), _STATE_FRACTION)


def _outside(dy: Q, t: int, steps: int) -> Ints:
    return integers(error_at(dy.q, t, steps)) << ERROR_ROOM


def _candidate(part: Q, c: Q) -> tuple[Q, float]:
    """Un h' + c from all rows of U h', or the last ones; what the bias loses."""
    last = Q(part.q[-1] if part.q.ndim == 2 else part.q, part.f)
    return accumulated(last, c), half(part.f) if part.f < BIAS_FRACTION else 0.0


def _scales(y: Q, t: int) -> Ints:
    """By what the errors of z, r and n meet U h'; 1 has as many fraction bits as r."""
    r = y.q[t, 1]
    one = np.full_like(r, 1 << y.f)
    return np.stack([one, one, r])


def _slopes(state: Ints, before: Q, g: Q, rounding: float) -> tuple[Ints, Floats]:
    """Derivatives of h by the arguments of z, r and n, (3, units), and by how much each is off."""
    (z, r, n, _), f = state, before.f
    one, unit = 1 << f, half(SLOPE_FRACTION)
    slope_z = rescale((before.q - n) * (z * (one - z)), 3 * f - SLOPE_FRACTION)
    slope_n = rescale((one - z) * ((1 << 2 * f) - n * n), 3 * f - SLOPE_FRACTION)
    slope = rescale(r * (one - r), 2 * f - SLOPE_FRACTION)
    both = rescale(slope_n * slope, SLOPE_FRACTION)
    factor = narrow(g.q, g.f - CANDIDATE_FRACTION, CARRIED_BITS)
    slope_r = narrow(both * factor, CANDIDATE_FRACTION, CARRIED_BITS)
    # Both factors of `both` are at most 1; so is itself, and at most 1/4 meets what g is off.
    size_ = np.abs(np.ldexp(factor.astype(float), -CANDIDATE_FRACTION))
    error_r = (1.25 * unit + unit) * size_ + 0.25 * (rounding + half(CANDIDATE_FRACTION)) + unit
    limit = (1 << (CARRIED_BITS - 1)) - 1
    is_out = (np.abs(factor) >= limit) | (np.abs(slope_r) >= limit)
    errors = np.stack(
        [np.full(z.shape, unit), np.where(is_out, ANY_ERROR, error_r), np.full(z.shape, unit)]
    )
    return np.stack([slope_z, slope_r, slope_n]), errors
