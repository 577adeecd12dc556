"""QuantizedGraph -> QuantizedGraph whose C has the forms that were chosen, or those of its core."""

from collections.abc import Mapping
from dataclasses import replace

from codegen.graph import QuantizedGraph, Step
from codegen.ops.base import Choice, Core

Forms = Mapping[str, Mapping[str, Choice]]  # by the name of a step, the choice for each knob

_WITH_8_BITS = Core(lanes=1, registers=8)  # kernels for these cost on all cores as on such a one


def choose_forms(quantized: QuantizedGraph, forms: Forms) -> QuantizedGraph:
    """Results stay the same; scratch memory may not. Other steps have the defaults of the core."""
    numbers = quantized.numbers
    core = numbers.core if numbers.activation_bits == 16 else _WITH_8_BITS
    steps = tuple(_formed(step, core, forms) for step in quantized.training.steps)
    return replace(quantized, training=replace(quantized.training, steps=steps))


def _formed(step: Step, core: Core, forms: Forms) -> Step:
    form = forms.get(step.twin or step.name, {})
    return replace(step, op=step.op.on_core(core).in_form(form))
