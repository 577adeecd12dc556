"""Weights as files have them -> starting parameters, and back.

A file has each parameter whole and as it was before a batch normalisation was folded into it,
whatever the network that reads it splits or folds: so what one network learnt starts another one.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from codegen.errors import UserError
from codegen.fixedpoint import Floats
from codegen.graph import PARAMETER_ROLES, Tensor
from codegen.interpret import unfolded

OWN = "mcugrad_"  # arrays that `mcugrad train --save` adds for itself


def load_weights(path: Path, tensors: Iterable[Tensor]) -> dict[str, Floats]:
    """Arrays by parameter name, such as conv1_w, out of an .npz; those not in it start as usual."""
    known = dict(tensor.whole for tensor in tensors if tensor.role in PARAMETER_ROLES)
    arrays = _arrays(path)
    for name, values in arrays.items():
        place = f"{path}: array {name}"
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise UserError(f"{place}: the network has no such parameter; {hint}")
        if values.shape != known[name]:
            raise UserError(f"{place}: has shape {values.shape} instead of {known[name]}")
        if values.dtype.kind not in "biuf" or not np.all(np.isfinite(values)):
            raise UserError(f"{place}: is not all finite numbers; save it as float64")
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def _arrays(path: Path) -> dict[str, Floats]:
    if not path.exists():
        raise UserError(f"{path}: there is no such file; check the path")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError
        with archive:
            names = [name for name in archive.files if not name.startswith(OWN)]
            arrays = {name: archive[name] for name in names}
    except Exception:  # numpy and zipfile raise nearly anything when a file is damaged
        raise UserError(
            f"{path}: is not an .npz archive of weights; mcugrad train --save or np.savez write one"
        ) from None
    if not arrays:
        raise UserError(f"{path}: holds no arrays; save weights under their parameters' names")
    return arrays


def whole_weights(tensors: Iterable[Tensor], values: Mapping[str, Floats]) -> dict[str, Floats]:
    """What `load_weights` reads again: split parameters joined, folded ones taken apart."""
    wholes: dict[str, Floats] = {}
    for tensor in tensors:
        if tensor.role in PARAMETER_ROLES:
            name, shape = tensor.whole
            whole = wholes.setdefault(name, np.zeros(shape))
            whole[tensor.rows] = values[tensor.name]
            if tensor.part is None or tensor.part.stop == shape[0]:
                wholes[name] = unfolded(tensor, whole)
    return wholes
