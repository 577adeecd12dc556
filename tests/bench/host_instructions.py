"""Prints how many instructions a training step of 64-32-10 takes on this machine.

In: a compiler and its flags, `cc -O3` without any, as in `python host_instructions.py clang -O3`;
tests/networks/digits.toml and the 1 797 digits of scikit-learn. Valgrind counts.

Of 1 200 steps the first 400 are not counted, nor what is done but once. Exit status 2 if a package
or program is missing.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from codegen.emit import Options, emit
from codegen.fixedpoint import Ints
from codegen.pipeline import make_plan, make_state, quantize_samples
from codegen.spec import load_spec

try:
    from sklearn.datasets import load_digits
except ImportError as error:
    print(f"needs {error.name}; pip install -e '.[dev]'", file=sys.stderr)
    sys.exit(2)

NETWORK = Path(__file__).parent.parent / "networks" / "digits.toml"
FEW, MANY = 400, 1200
MAIN = """
#include <stdlib.h>
#include "digits.h"
static const int16_t x[][64] = {%s};
static const int16_t labels[] = {%s};
static digits_params params;
static digits_work work;
int main(int count, char **arguments)
{
    const int steps = count == 2 ? atoi(arguments[1]) : 0;
    int32_t loss = 0;
    digits_init(&params);
    for (int i = 0; i < steps; i++) {
        loss |= digits_train(&params, &work, x[i], labels[i]);
    }
    return loss < 0;
}
"""


def main(compiler: list[str]) -> int:
    missing = [name for name in (compiler[0], "valgrind") if shutil.which(name) is None]
    if missing:
        print(f"there is no {missing[0]} on the PATH", file=sys.stderr)
        return 2
    spec, digits = load_spec(NETWORK), load_digits()
    plan = make_plan(spec)
    samples = quantize_samples(spec, digits.data[:MANY] / spec.input_max, digits.target[:MANY])
    files = emit(spec, plan, make_state(spec, plan), Options())
    files["main.c"] = MAIN % (numbers(samples.x), numbers(samples.target))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        sources = [name for name in files if name.endswith(".c")]
        subprocess.run([*compiler, *sources, "-o", "main"], cwd=folder, check=True)
        few, many = (instructions(folder, steps) for steps in (FEW, MANY))
    print(f"{' '.join(compiler)}: {(many - few) / (MANY - FEW):.0f} instructions a step")
    return 0


def numbers(values: Ints) -> str:
    """Initialisers of an array, row by row."""
    if values.ndim == 1:
        return ", ".join(map(str, values))
    return ",\n".join(f"{{{numbers(row)}}}" for row in values)


def instructions(folder: str, steps: int) -> int:
    """All that the program executes for so many steps."""
    command = ["valgrind", "--tool=callgrind", "--log-file=log", "./main", str(steps)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    text = (Path(folder) / "log").read_text(encoding="utf-8")
    found = re.search(r"Collected : (\d+)", text)
    assert found is not None, text
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["cc", "-O3"]))
