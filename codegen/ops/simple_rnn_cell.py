"""h[t] = tanh(x[t] + U h[t-1]), and errors back through time; x is W x + b of all steps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q, dot, integers
from codegen.ops import curves
from codegen.ops.base import Parameter, Products, Recurrence, Shape, Shapes
from codegen.ops.recurrence import (
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
    products,
)


@dataclass(frozen=True)
class SimpleRnnCell(Cell):
    """Placed by simple_rnn. x and h: (steps, units)."""

    kind: ClassVar[str] = "simple_rnn_cell"

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        units = inputs[0][-1]
        return {"u": Parameter((units, units), "weight", fan_in=units, fan_out=units)}

    def products(self, kernel: str, shapes: Shapes) -> Products:
        if kernel == "grad_u":
            return Products(max(1, shapes["y"][0] - 1), ("dx", "y"))
        return Products(shapes["out"][-1], ("u", "out"))

    def accumulator_bits(self, kernel: str, total: int, with_bias: int) -> int:
        """grad_x: what was carried, and an error that is far shorter, times a derivative."""
        room = {
            "forward": argument_room(total),
            "grad_x": CARRIED_BITS + curves.DERIVATIVE_FRACTION,
        }
        return room.get(kernel, with_bias)

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        """For a row of U errors of all steps."""
        return max(1, shapes["y"][0] - 1) if kernel == "grad_u" else 0

    def scratch_like(self, kernel: str, shapes: Shapes) -> tuple[str, ...]:
        return ("dx",) if kernel == "grad_u" else ()

    def stored_bits(self, kernel: str) -> int | None:
        """States are at most 1."""
        return 30 if kernel == "forward" else None

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        steps, units = shapes.get("y", shapes["out"])
        return (steps - 1) * units * units

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"tanh_table": curves.TANH_TABLE} if kernel == "forward" else {}

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        if kernel == "grad_x" and len(shapes["dy"]) == 2:
            return {"dy": 0}
        return {"x": 0} if kernel == "forward" else {}

    def forward(self, x: Floats, u: Floats, *, shape: Shape) -> Recurrence:
        h = np.zeros(shape[-1])
        for t in range(len(x)):
            h = yield t, np.tanh(x[t] + u @ h)

    def forward_int(self, x: Q, u: Q, *, shape: Shape, out_f: int) -> Recurrence:
        h = Q(np.zeros(shape[-1], np.int64), out_f)
        for t in range(len(x.q)):
            part = products(h, u)
            acc = curves.tanh_int(argument(Q(x.q[t], x.f), part), ARGUMENT_FRACTION)
            error = curves.TANH_ERROR + argument_error(x.f, part.f)
            h = yield t, Q(acc, curves.FRACTION), error

    def grad_x(self, dy: Floats, y: Floats, u: Floats, *, shape: Shape) -> Recurrence:
        dx = np.zeros(shape[-1])
        for t in backwards(len(y)):
            dx = yield t, (error_at(dy, t, len(y)) + dx @ u) * (1 - y[t] * y[t])

    def grad_x_int(self, dy: Q, y: Q, u: Q, *, shape: Shape, out_f: int) -> Recurrence:
        f = dy.f + ERROR_ROOM
        dx = Q(np.zeros(shape[-1], np.int64), out_f)
        for t in backwards(len(y.q)):
            back, error = carried(products(dx, Q(u.q.T, u.f)), f)
            total = (integers(error_at(dy.q, t, len(y.q))) << ERROR_ROOM) + back
            slope = (1 << 2 * y.f) - y.q[t] * y.q[t]
            acc = total * (slope << (curves.DERIVATIVE_FRACTION - 2 * y.f))
            dx = yield t, Q(acc, f + curves.DERIVATIVE_FRACTION), error

    def grad_u(self, dx: Floats, y: Floats) -> Floats:
        du: Floats = dx[1:].T @ y[:-1]
        return du

    def grad_u_int(self, dx: Q, y: Q) -> Q:
        return Q(dot(dx.q[1:].T, y.q[:-1].T), dx.f + y.f)
