"""QuantizedGraph -> QuantizedGraph whose C has the forms that were chosen, or those of its core."""

from collections.abc import Mapping
from dataclasses import replace

from codegen.graph import QuantizedGraph, Step
from codegen.ops.base import Choice

Forms = Mapping[str, Mapping[str, Choice]]  # by the name of a step, the choice for each knob


def choose_forms(quantized: QuantizedGraph, forms: Forms) -> QuantizedGraph:
    """Results stay the same; scratch memory may not. Other steps have the defaults of the core."""
    numbers = quantized.numbers
    lanes = numbers.lanes if numbers.activation_bits == 16 else 1  # as kernels for 8 bits cost
    steps = tuple(_formed(step, lanes, forms) for step in quantized.training.steps)
    return replace(quantized, training=replace(quantized.training, steps=steps))


def _formed(step: Step, lanes: int, forms: Forms) -> Step:
    form = forms.get(step.twin or step.name, {})
    return replace(step, op=step.op.on_core(lanes).in_form(form))
