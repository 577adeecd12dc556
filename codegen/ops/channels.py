"""What ops share that treat each channel by itself."""

from codegen.fixedpoint import Array


def over_positions(v: Array) -> Array:
    """The sum of each channel, (..., channels) -> (channels,)."""
    total: Array = v.reshape(-1, v.shape[-1]).sum(axis=0)
    return total
