"""Recurrent ops: their formulas, finite differences, and integers that go on with what they stored."""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from codegen import paths
from codegen.errors import UserError
from codegen.fixedpoint import BIAS_FRACTION, Floats, Ints, Q, integers, narrow, saturate
from codegen.ops.base import LayerOp, Products, Shape, size, unroll
from codegen.ops.gru import Gru
from codegen.ops.gru_cell import GruCell
from codegen.ops.hidden import Hidden
from codegen.ops.recurrence import Cell
from codegen.ops.simple_rnn import SimpleRnn
from codegen.ops.simple_rnn_cell import SimpleRnnCell
from codegen.pipeline import make_plan
from codegen.spec import parse_spec

STEP = 1e-6
DIFFERENCE_ERROR = 1e-7  # of a central difference, as in test_ops.py


@dataclass(frozen=True)
class Case:
    """A cell, how many steps it makes, and how many units it has."""

    op: Cell
    steps: int
    units: int

    @property
    def x(self) -> Shape:
        return (self.steps, self.units * (3 if isinstance(self.op, GruCell) else 1))

    @property
    def tensors(self) -> dict[str, Shape]:
        """Every tensor that a kernel may read or write."""
        y = self.op.output_shape(self.x)
        own = {key: p.shape for key, p in self.op.parameters(self.x).items()}
        return {"x": self.x, "dx": self.x, "y": y, "dy": self.op.error_shape(y), **own}

    @property
    def kernels(self) -> list[str]:
        return ["forward", "grad_x", *(f"grad_{key}" for key in self.op.parameters(self.x))]

    def shapes(self, kernel: str) -> dict[str, Shape]:
        """Of the operands of a kernel and of what it writes."""
        known = self.tensors
        out = known["y"] if kernel == "forward" else known[kernel.removeprefix("grad_")]
        return {**{key: known[key] for key in self.op.reads(kernel)}, "out": out}

    def __str__(self) -> str:
        way = "-sequence" if self.op.sequence else ""
        return f"{self.op}-{self.steps}x{self.units}{way}"


CASES = [
    Case(op, *extent)
    for op in (SimpleRnnCell(), SimpleRnnCell(True), GruCell(), GruCell(True))
    for extent in ((5, 3), (1, 2), (2, 1), (7, 4))
]


def evaluate(op: LayerOp, kernel: str, operands: dict[str, Floats], shape: Shape) -> Floats:
    """A float kernel of either sort."""
    result = op.call(kernel, operands, shape=shape)
    if not op.is_recurrent(kernel):
        return np.asarray(result)
    out = np.zeros(shape)

    def keep(place: Any, numbers: Floats) -> Floats:
        if place is not None:
            out[place] = numbers
        return numbers

    unroll(result, keep)
    return out


# ---------------------------------------------------------------- formulas and slopes


def sigmoid(v: Floats) -> Floats:
    return 1 / (1 + np.exp(-v))


def test_a_simple_rnn_is_its_formula() -> None:
    random = np.random.RandomState(1)
    x, u, h = random.standard_normal((4, 3)), random.standard_normal((3, 3)), np.zeros(3)
    got = evaluate(SimpleRnnCell(), "forward", {"x": x, "u": u}, (4, 3))
    for t in range(4):
        h = np.tanh(x[t] + u @ h)
        assert got[t] == pytest.approx(h)


def test_a_gru_is_its_formula() -> None:
    """As PyTorch's documentation has it, with bz + cz and br + cr in the input's bias."""
    random = np.random.RandomState(2)
    x, u, c = (random.standard_normal(shape) for shape in ((4, 6), (6, 2), (2,)))
    got = evaluate(GruCell(), "forward", {"x": x, "u": u, "c": c}, (4, 4, 2))
    h = np.zeros(2)
    for t in range(4):
        z = sigmoid(x[t, 0:2] + u[0:2] @ h)
        r = sigmoid(x[t, 2:4] + u[2:4] @ h)
        n = np.tanh(x[t, 4:6] + r * (u[4:6] @ h + c))
        h = (1 - z) * n + z * h
        assert got[t] == pytest.approx(np.stack([z, r, n, h]))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_errors_and_gradients_are_the_slopes_of_the_hidden_state(case: Case, seed: int) -> None:
    random, op = np.random.RandomState(seed), case.op
    operands = {
        key: random.standard_normal(shape)
        for key, shape in case.shapes("forward").items()
        if key != "out"
    }
    dy = random.standard_normal(case.tensors["dy"])

    def error(key: str, value: Floats) -> float:
        y = evaluate(op, "forward", {**operands, key: value}, case.tensors["y"])
        return float(np.sum(dy * Hidden(op.sequence).forward(y)))

    known = {**operands, "dy": dy}
    known["y"] = evaluate(op, "forward", operands, case.tensors["y"])
    known["dx"] = evaluate(op, "grad_x", known, case.x)
    for key, value in operands.items():
        gradient = evaluate(op, f"grad_{key}", known, value.shape)
        assert gradient.shape == value.shape
        way = random.standard_normal(value.shape)
        slope = (error(key, value + STEP * way) - error(key, value - STEP * way)) / (2 * STEP)
        assert float(np.sum(gradient * way)) == pytest.approx(slope, abs=DIFFERENCE_ERROR), key


# ---------------------------------------------------------------- integers


def numbers(shape: Shape, bits: int, seed: int) -> Iterator[Ints]:
    """Random over the full range, small, the extremes in every mixture."""
    random, rail = np.random.RandomState(seed), 2 ** (bits - 1)
    yield random.randint(-rail, rail, shape)
    yield random.randint(-rail, rail, shape) >> (bits // 2)
    yield np.full(shape, -rail)
    yield np.full(shape, rail - 1)
    yield random.choice([-rail, rail - 1], shape)
    yield random.choice([-rail, -1, 0, 1, rail - 1], shape)


WIDTHS = [(16, 16), (16, 8), (8, 8)]
# Fraction bits of the weights, and of x or dy; what out_f has more than dy_f.
EXPONENTS = [(14, 11, -3), (15, 14, 2), (6, 3, -1), (-8, -8, -20), (22, 23, 8), (11, 40, 0)]


def operands_of(
    case: Case, kernel: str, bits: tuple[int, int], f: tuple[int, int, int], seed: int
) -> Iterator[dict[str, Q]]:
    """Weights of bits[0], a state of bits[1]; gates are not negative."""
    formats = {"u": (bits[0], f[0]), "c": (32, BIAS_FRACTION), "y": (bits[1], bits[1] - 1)}
    shapes = case.shapes(kernel)
    del shapes["out"]
    streams = [
        numbers(shape, formats.get(key, (bits[1], 0))[0], seed + i)
        for i, (key, shape) in enumerate(shapes.items())
    ]
    for values in zip(*streams, strict=True):
        found = {
            key: Q(integers(v), formats.get(key, (0, f[1]))[1])
            for key, v in zip(shapes, values, strict=True)
        }
        if "y" in found and isinstance(case.op, GruCell):
            found["y"].q[:, :2] = np.maximum(found["y"].q[:, :2], 0)
        yield found


@dataclass(frozen=True)
class Piece:
    place: Any
    acc: Q
    error: Any
    stored: Q


def run_int(
    case: Case,
    kernel: str,
    operands: dict[str, Q],
    bits: int,
    out_f: int,
    replayed: list[Piece] | None = None,
) -> list[Piece]:
    """The integer kernel; `replayed`: it is sent what that run stored instead of its own."""
    pieces: list[Piece] = []

    def keep(place: Any, acc: Q, error: Any) -> Q:
        if replayed is not None:
            stored = replayed[len(pieces)].stored
        elif place is None:
            stored = Q(saturate(acc.q, 32), acc.f)
        else:
            stored = Q(narrow(acc.q, acc.f - out_f, bits), out_f)
        pieces.append(Piece(place, acc, error, stored))
        return stored

    shape = case.shapes(kernel)["out"]
    unroll(case.op.call(f"{kernel}_int", operands, shape=shape, out_f=out_f), keep)
    return pieces


def settings(kernel: str, bits: tuple[int, int], f: tuple[int, int, int]) -> tuple[int, int]:
    """Bits and fraction bits of what the kernel stores."""
    return bits[1], bits[1] - 1 if kernel == "forward" else f[1] + f[2]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
@pytest.mark.parametrize("f", EXPONENTS, ids=str)
def test_each_step_is_as_near_to_its_float_twin_as_it_says(
    case: Case, bits: tuple[int, int], f: tuple[int, int, int]
) -> None:
    """The float twin is sent what the integers stored, so that each step is compared alone."""
    for kernel in ("forward", "grad_x"):
        width, out_f = settings(kernel, bits, f)
        for operands in operands_of(case, kernel, bits, f, seed=1):
            pieces = run_int(case, kernel, operands, width, out_f)
            following = iter(pieces)

            def keep(place: Any, want: Floats, following: Iterator[Piece] = following) -> Floats:
                piece = next(following)
                assert str(piece.place) == str(place)
                own = np.abs(want) * 2.0**-45 + 2.0**-60
                assert np.all(np.abs(piece.acc.value - want) <= piece.error + own)
                return piece.stored.value

            floats = {key: q.value for key, q in operands.items()}
            unroll(case.op.call(kernel, floats, shape=case.shapes(kernel)["out"]), keep)
            assert next(following, None) is None


@pytest.mark.parametrize("op", [SimpleRnnCell(), GruCell()], ids=str)
def test_errors_that_are_derived_are_nearly_reached(op: Cell) -> None:
    """A bound that nothing comes near would hide mistakes."""
    case, nearest = Case(op, 5, 3), 0.0
    for operands in operands_of(case, "grad_x", (16, 16), (14, 11, -3), seed=1):
        following = iter(run_int(case, "grad_x", operands, 16, 8))

        def keep(_: Any, want: Floats, following: Iterator[Piece] = following) -> Floats:
            nonlocal nearest
            piece = next(following)
            share = np.abs(piece.acc.value - want) / np.maximum(piece.error, 2.0**-60)
            nearest = max(nearest, float(np.max(share)))
            return piece.stored.value

        floats = {key: q.value for key, q in operands.items()}
        unroll(op.call("grad_x", floats, shape=case.x), keep)
    assert 0.9 < nearest <= 1


def width_of(bits: tuple[int, int], key: str) -> int:
    return bits[0] if key == "u" else bits[1]


def sum_bits(products: Products, bits: tuple[int, int]) -> int:
    product = sum(width_of(bits, key) - 1 for key in products.factors)
    return product + (products.terms - 1).bit_length()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
@pytest.mark.parametrize("f", EXPONENTS, ids=str)
def test_accumulators_stay_within_their_bound_and_have_one_exponent(
    case: Case, bits: tuple[int, int], f: tuple[int, int, int]
) -> None:
    for kernel in ("forward", "grad_x"):
        total = sum_bits(case.op.products(kernel, case.shapes(kernel)), bits)
        bound = case.op.accumulator_bits(kernel, total, total + 1)
        width, out_f = settings(kernel, bits, f)
        for operands in operands_of(case, kernel, bits, f, seed=2):
            pieces = run_int(case, kernel, operands, width, out_f)
            assert all(np.max(np.abs(p.acc.q)) <= 2**bound for p in pieces)
            assert len({p.acc.f for p in pieces if p.place is not None}) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
def test_gradients_of_parameters_are_exact(case: Case, bits: tuple[int, int]) -> None:
    for kernel in case.kernels[2:]:
        total = sum_bits(case.op.products(kernel, case.shapes(kernel)), bits)
        for operands in operands_of(case, kernel, bits, (14, 9, 0), seed=3):
            floats = {key: q.value for key, q in operands.items()}
            want = evaluate(case.op, kernel, floats, case.shapes(kernel)["out"])
            got = case.op.call(f"{kernel}_int", operands)
            assert np.array_equal(got.value, want), kernel
            assert np.max(np.abs(got.q)) <= 2**total


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_may_lie_over_x_as_far_as_the_op_says(case: Case) -> None:
    """Which numbers of x an element reads is seen by changing each, the stored ones being kept."""
    run = partial(run_int, case, "forward", bits=16, out_f=15)
    f = (14, 12, 0)
    operands = next(operands_of(case, "forward", (16, 16), f, seed=4))
    operands["x"] = Q(operands["x"].q >> 4, 12)
    before = run(operands)
    first = np.full(case.tensors["y"], math.inf)
    for index in reversed(range(size(case.x))):
        changed = operands["x"].q.copy()
        changed.flat[index] += 999
        after = run({**operands, "x": Q(changed, 12)}, replayed=before)
        for a, b in zip(before, after, strict=True):
            first[a.place] = np.where(a.acc.q != b.acc.q, index, first[a.place])
    flat = first.reshape(-1)
    needed = [k + 1 - min(flat[k + 1 :]) for k in range(flat.size - 1)]
    assert case.op.lag("forward", case.shapes("forward")) == {"x": max(0, *needed, 0)}


@pytest.mark.parametrize("case", [c for c in CASES if c.op.sequence], ids=str)
def test_backward_may_lie_over_dy_as_far_as_the_op_says(case: Case) -> None:
    """It goes back: before a row of dx is written, what rows before it need must lie below it."""
    run = partial(run_int, case, "grad_x", bits=16, out_f=12)
    operands = next(operands_of(case, "grad_x", (16, 16), (14, 12, 0), seed=5))
    before, row = run(operands), case.x[1]
    largest = np.full(case.steps, -1)  # index of dy that a row reads
    for index in range(size(case.tensors["dy"])):
        changed = operands["dy"].q.copy()
        changed.flat[index] ^= 0x555
        after = run({**operands, "dy": Q(changed, 12)}, replayed=before)
        rows = [p.place for p in before]
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            if not np.array_equal(a.acc.q, b.acc.q):
                # What is carried is read by the next row.
                largest[rows[i] if rows[i] is not None else rows[i + 1]] = index
    over = [t * row - 1 - largest[:t].max() for t in range(1, case.steps)]
    allowed = case.op.lag("grad_x", case.shapes("grad_x"))["dy"]
    assert case.op.goes_back("grad_x")
    assert not case.op.goes_back("forward")
    assert allowed == min(over) if over else allowed >= 0


# ---------------------------------------------------------------- what the generator needs


@pytest.mark.parametrize("op", [SimpleRnnCell(), GruCell(), Hidden()], ids=str)
def test_every_kernel_has_a_macro_and_an_integer_twin(op: LayerOp) -> None:
    template = (paths.TEMPLATES / "ops" / f"{op.kind}.c.j2").read_text(encoding="utf-8")
    kernels = [name for name in dir(op) if hasattr(op, f"{name}_int")]
    assert "forward" in kernels
    for kernel in kernels:
        assert f"macro {kernel}(" in template
        assert f"macro {kernel}_fraction(" in template
        twin = inspect.signature(getattr(op, f"{kernel}_int")).parameters
        assert [n for n in twin if n not in ("shape", "out_f")] == list(op.reads(kernel))
        assert op.is_recurrent(kernel) == inspect.isgeneratorfunction(getattr(op, f"{kernel}_int"))


@pytest.mark.parametrize("layer", [Gru(4), Gru(4, True), SimpleRnn(4), SimpleRnn(4, True)])
def test_a_layer_says_the_shape_of_what_it_gives(layer: Gru | SimpleRnn) -> None:
    assert layer.output_shape((6, 3)) == ((6, 4) if layer.sequence else (4,))
    roles = [p.role for p in layer.parameters((6, 3)).values()]
    assert roles == ["weight", "bias", "weight", "bias"][: 4 if isinstance(layer, Gru) else 3]


NET = """name = "net"
input = [{input}]
loss = "squared_error"
[[layer]]
kind = "{kind}"
units = {units}
{more}
[[layer]]
kind = "dense"
units = 2
"""


@pytest.mark.parametrize("kind", ["gru", "simple_rnn"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input": "4"},
            "{kind} needs (steps, channels), its input is (4,); put a reshape before it",
        ),
        (
            {"input": "4, 3, 2"},
            "{kind} needs (steps, channels), its input is (4, 3, 2); put a reshape before it",
        ),
        ({"units": 0}, "units = 0: at least 1 is needed"),
        (
            {"more": "update_channels = 0.5"},
            "{kind} cannot learn some channels only; remove update_channels",
        ),
        (
            {"more": "sequence = true"},
            None,
        ),
    ],
)
def test_bad_layers_are_refused(kind: str, changes: dict[str, object], message: str | None) -> None:
    values = {"input": "4, 3", "kind": kind, "units": 3, "more": "", **changes}
    place = f"net.toml: layer 1 ({kind}1): "
    if message is None:  # the layer behind it needs a vector
        place, message = (
            "net.toml: layer 2 (dense1): ",
            ("dense needs a vector, its input is (4, 3); put a flatten before it"),
        )
    with pytest.raises(UserError) as caught:
        make_plan(parse_spec(NET.format(**values), "net.toml"))
    assert str(caught.value) == place + message.format(kind=kind)


@pytest.mark.parametrize("kind", ["gru", "simple_rnn"])
def test_a_layer_whose_sums_are_too_long_is_refused(kind: str) -> None:
    """Arguments of curves get 22 fraction bits, however few the sum over the units has."""
    spec = parse_spec(NET.format(input="4, 3", kind=kind, units=257, more=""), source="net.toml")
    with pytest.raises(UserError) as caught:
        make_plan(spec)
    assert str(caught.value) == (
        f"net.toml: layer 1 ({kind}1): its sums may need more than 62 bits; take a smaller layer "
        "or mode = 'int8'"
    )
    make_plan(replace(spec, mode="int8"))
    make_plan(parse_spec(NET.format(input="4, 3", kind=kind, units=256, more=""), "net.toml"))
    far = NET.format(input="4, 3", kind=kind, units=2**24, more="")
    with pytest.raises(UserError) as caught:
        make_plan(replace(parse_spec(far, "net.toml"), mode="int8"))
    assert str(caught.value) == (
        f"net.toml: layer 1 ({kind}1): its sums may need more than 62 bits; take a smaller layer"
    )
