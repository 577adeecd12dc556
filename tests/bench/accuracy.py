"""Prints the mean accuracy of 5 seeds on 8 x 8 digits, fixed point beside float, in every mode.

The last third of the epochs runs at a tenth of the learning rate.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from codegen.ops.step import Step
from codegen.pipeline import load_spec_data
from codegen.spec import MODES, load_spec
from host_sim.training import train

NETWORK = Path(__file__).parent.parent / "networks" / "digits.toml"


def main(seeds: int = 5, epochs: int = 15) -> None:
    digits = load_digits()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits.npz"
        np.savez(data, x=digits.data, y=digits.target)
        for mode in MODES:
            spec = replace(load_spec(NETWORK), mode=mode)
            samples = load_spec_data(spec, data).x
            spec = replace(spec, schedule=Step(samples=epochs * 2 // 3 * len(samples)))
            results = [
                train(spec, load_spec_data(spec, data, seed), epochs=epochs, seed=seed)
                for seed in range(seeds)
            ]
            fixed = np.mean([result.fixed.score for result in results])
            float_ = np.mean([result.float_.score for result in results])
            print(f"{mode:13} fixed point {100 * fixed:.2f} %  float {100 * float_:.2f} %")


if __name__ == "__main__":
    main()
