"""The network and the data of `mcugrad demo`: 1 797 real handwritten digits of 8 x 8 pixels."""

from pathlib import Path

import numpy as np

from codegen.errors import UserError
from codegen.paths import TEMPLATES


def write_digits(folder: Path) -> tuple[Path, Path]:
    """digits.toml and digits.npz in the folder; the data come with scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the demo needs scikit-learn; pip install 'mcugrad[demo]'") from None
    digits = load_digits()
    network, data = folder / "digits.toml", folder / "digits.npz"
    network.write_text((TEMPLATES / "digits.toml").read_text(encoding="utf-8"), encoding="utf-8")
    with data.open("wb") as file:
        np.savez_compressed(file, x=digits.data, y=digits.target)
    return network, data
