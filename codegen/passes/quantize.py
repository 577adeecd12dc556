"""TrainingGraph -> QuantizedGraph: a format for each tensor, a bound for each accumulator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from codegen.fixedpoint import BIAS_FRACTION, MAX_FRACTION, MAX_WEIGHT_FRACTION, sum_bits
from codegen.graph import (
    BIAS_FORMAT,
    FACTOR_FORMAT,
    SEED_FORMAT,
    Accumulator,
    Numbers,
    QuantizedGraph,
    Step,
    Tensor,
    TensorFormat,
    TooManyBitsError,
    TrainingGraph,
)
from codegen.ops.base import ElementwiseOp, LayerOp, LossOp

FROZEN_BITS = 8  # weights that do not learn
_INT32_BITS = 30  # |sum| <= 2**30 leaves room for one more addend
_INT64_BITS = 62


def quantize(training: TrainingGraph, numbers: Numbers) -> QuantizedGraph:
    """Formats by role (NUMERICS 1 to 6), then bounds from the formats and the real sizes.

    TooManyBitsError where a bound is beyond what the C has.
    """
    if numbers.accumulate == "short":
        training = replace(training, steps=tuple(_short(step) for step in training.steps))
    writer = {step.output: step for step in training.steps if step.phase != "gradient"}
    formats = {
        name: _format(tensor, writer.get(name), training, numbers)
        for name, tensor in training.tensors.items()
    }
    accumulators = {
        step.name: _accumulator(step, formats, numbers)
        for step in training.steps
        if isinstance(step.op, LayerOp | LossOp)
    }
    return QuantizedGraph(training, numbers, formats, accumulators)


def _short(step: Step) -> Step:
    """The same with finishes that make do with 32 bits where they can."""
    finishes = (replace(finish, op=finish.op.short()) for finish in step.finishes)
    return replace(step, finishes=tuple(finishes))


def _format(
    tensor: Tensor, writer: Step | None, training: TrainingGraph, numbers: Numbers
) -> TensorFormat:
    if tensor.role == "input":
        return TensorFormat(numbers.activation_bits, "fixed", numbers.activation_bits - 1)
    if tensor.role == "target":
        return TensorFormat(16, "fixed", 0 if training.graph.loss.target_is_label else 15)
    if tensor.role == "weight":
        bits = FROZEN_BITS if tensor.frozen else numbers.weight_bits
        return TensorFormat(bits, "parameter")
    if tensor.role == "bias":
        return BIAS_FORMAT
    if tensor.role == "factor":
        return FACTOR_FORMAT
    if tensor.role == "seed":
        return SEED_FORMAT
    if tensor.role == "gradient":
        return _gradient_format(tensor, training)
    if tensor.role == "error":
        exact = writer is not None and writer.phase == "loss"
        return TensorFormat(numbers.error_bits, "exact" if exact else "relative")
    bits = 16 if tensor.role == "scores" else numbers.activation_bits
    return _activation_format(tensor, writer, training, bits)


def _gradient_format(tensor: Tensor, training: TrainingGraph) -> TensorFormat:
    """A stored gradient is exact; an accumulated one has 16 bits and a range, biases 32."""
    step = next(s for s in training.steps if s.output == tensor.name)
    if step.sink is not None and step.sink.kind == "store":
        return TensorFormat(32, "exact")
    assert tensor.owner is not None
    if training.tensors[tensor.owner].role == "bias":
        return BIAS_FORMAT
    return TensorFormat(16, "adaptive")


def _activation_format(
    tensor: Tensor, writer: Step | None, training: TrainingGraph, bits: int
) -> TensorFormat:
    own = _last(writer).output_fraction(bits) if writer is not None else None
    if own is not None:
        return TensorFormat(bits, "fixed", own)
    if tensor.pinned is not None:
        return TensorFormat(bits, "fixed", tensor.pinned.fraction_bits)
    if tensor.role == "scores" and not training.graph.loss.scores_adapt:
        return TensorFormat(bits, "fixed", training.graph.loss.score_fraction)
    return TensorFormat(bits, "adaptive")


def _last(writer: Step) -> LayerOp | ElementwiseOp:
    """The op of a step whose values are stored; those before it may have had another range."""
    op = writer.finishes[-1].op if writer.finishes else writer.op
    assert isinstance(op, LayerOp | ElementwiseOp)
    return op


def _accumulator(step: Step, formats: Mapping[str, TensorFormat], numbers: Numbers) -> Accumulator:
    if isinstance(step.op, LossOp):
        total = raw = step.op.error_bits(formats[step.reads["x"]].f)
        has_bias, terms = False, 1
        is_short = step.op.may_be_short and raw < 32
    else:
        assert isinstance(step.op, LayerOp)
        total, terms, with_bias = _sum(step, step.op, formats)
        has_bias = with_bias > total
        is_short = numbers.accumulate == "short" and step.op.may_be_short(step.kernel)
        is_small = total <= _INT32_BITS and step.op.takes_numbers(step.kernel)
        is_short = step.sink is None and (is_short or is_small)
        raw = step.op.accumulator_bits(step.kernel, total, with_bias)
        if is_short:
            raw = _INT32_BITS + 1 if has_bias else min(total, _INT32_BITS)
    bits = raw
    for finish in step.finishes:
        bits = finish.op.grown_bits(finish.kernel, bits)
    if bits > _INT64_BITS:
        raise TooManyBitsError(step.name)
    c_type: Literal["int32_t", "int64_t"] = "int32_t" if total <= _INT32_BITS else "int64_t"
    excess = max(0, total - _INT32_BITS)
    shift, narrowing = excess if is_short else 0, excess if step.sink is not None else 0
    return Accumulator(total, raw, bits, terms, c_type, has_bias, is_short, shift, narrowing)


def _sum(step: Step, op: LayerOp, formats: Mapping[str, TensorFormat]) -> tuple[int, int, int]:
    """Bits of the sum, number of terms, bits with the bias."""
    products = op.products(step.kernel, step.shapes)
    tensors = {**step.reads, "out": step.output}
    factors = [formats[tensors[key]] for key in products.factors]
    product_bits = sum(factor.bits - 1 for factor in factors) + products.more
    total = with_bias = sum_bits(product_bits, products.terms)
    if any(formats[name] is BIAS_FORMAT for name in step.reads.values()):
        fraction = sum(_largest_fraction(factor) for factor in factors)
        with_bias = max(total, 31 + fraction - BIAS_FRACTION) + 1
    return total, products.terms, with_bias


def _largest_fraction(tensor_format: TensorFormat) -> int:
    if tensor_format.policy == "fixed":
        return tensor_format.f
    return MAX_WEIGHT_FRACTION if tensor_format.policy == "parameter" else MAX_FRACTION
