"""QuantizedGraph -> QuantizedGraph whose steps have the forms that were chosen for their C."""

from collections.abc import Mapping
from dataclasses import replace

from codegen.graph import QuantizedGraph, Step
from codegen.ops.base import Choice

Forms = Mapping[str, Mapping[str, Choice]]  # by the name of a step, the choice for each knob


def choose_forms(quantized: QuantizedGraph, forms: Forms) -> QuantizedGraph:
    """Results stay the same; scratch memory may not. Other steps keep their defaults."""
    steps = tuple(_formed(step, forms) for step in quantized.training.steps)
    return replace(quantized, training=replace(quantized.training, steps=steps))


def _formed(step: Step, forms: Forms) -> Step:
    form = forms.get(step.twin or step.name, {})
    return replace(step, op=step.op.in_form(form)) if form else step
