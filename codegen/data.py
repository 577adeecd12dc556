"""Samples for training a network, read from an .npz or a .csv file."""

import csv
import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from codegen.errors import UserError

_Floats = NDArray[np.float64]
_Pair = tuple[_Floats, _Floats]  # x (samples, *shape) and y (samples, columns), both raw


@dataclass(frozen=True)
class Data:
    """Samples in units of the largest number: 1.0 is input_max in x and target_max in a target.

    x, x_test: (samples, *input shape), not clipped, so numbers may be beyond +-1.
    y, y_test: int64 labels (samples,), or float64 targets (samples, outputs).
    beyond: how many raw input numbers of x and x_test are beyond +-input_max and will saturate.
    """

    x: NDArray[np.float64]
    y: NDArray[Any]
    x_test: NDArray[np.float64]
    y_test: NDArray[Any]
    beyond: int = 0


def load_data(
    path: Path,
    *,
    shape: tuple[int, ...],
    outputs: int,
    labels: bool,
    input_max: float,
    target_max: float,
    seed: int,
) -> Data:
    """The samples in `path`, for a network with inputs of `shape` and that many `outputs`.

    x in the file: (samples, *shape) or (samples, prod(shape)), in the unit of input_max.
    y in the file: labels 0..outputs-1, (samples,) or (samples, 1); or targets in the unit of
    target_max, (samples, outputs) or, of one output, (samples,).
    Without x_test and y_test in the file, a fifth of the samples, drawn with `seed`, is the test.
    """
    layout = _Layout(shape, outputs, labels)
    try:
        train, test = _train_and_test(_read(path, layout), layout, seed)
    except (UserError, OSError) as error:
        raise UserError(f"{path}: {_explanation(error)}") from None

    def expected(y: _Floats) -> NDArray[Any]:
        return y[:, 0].astype(np.int64) if labels else y / target_max

    return Data(
        x=train[0] / input_max,
        y=expected(train[1]),
        x_test=test[0] / input_max,
        y_test=expected(test[1]),
        beyond=sum(int(np.count_nonzero(np.abs(x) > input_max)) for x, _ in (train, test)),
    )


@dataclass(frozen=True)
class _Layout:
    """What the network expects of its samples."""

    shape: tuple[int, ...]
    outputs: int
    labels: bool

    @property
    def inputs(self) -> int:
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """How many numbers of y belong to one sample."""
        return 1 if self.labels else self.outputs

    @property
    def x_shapes(self) -> list[tuple[int, ...]]:
        return list(dict.fromkeys([self.shape, (self.inputs,)]))

    @property
    def y_shapes(self) -> list[tuple[int, ...]]:
        return [(), (1,)] if self.columns == 1 else [(self.columns,)]


@dataclass(frozen=True)
class _Source:
    """The arrays of a file, and what to call the place of an array or of one of its samples."""

    arrays: dict[str, NDArray[Any]]
    place: Callable[[str, int | None], str]


def _explanation(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "file: does not exist; check the path"
    if isinstance(error, OSError):
        return f"file: cannot be read ({error.strerror}); check that it is a readable file"
    return str(error)


def _read(path: Path, layout: _Layout) -> _Source:
    path.stat()  # a file that does not exist is a worse mistake than a wrong suffix
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(path)
    if suffix == ".csv":
        return _read_csv(path, layout)
    raise UserError("file: is neither .npz nor .csv; save the samples as one of them")


def _read_npz(path: Path) -> _Source:
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception:  # numpy and zipfile raise nearly anything when a file is damaged
            archive = None
        if not isinstance(archive, NpzFile):
            raise UserError("file: is not an .npz archive or is damaged; save it with np.savez")
        with archive:
            names = _array_names(archive.files)
            arrays = {name: _array(archive, name) for name in names}
    return _Source(arrays, lambda name, i: f"array {name}" if i is None else f"{name}[{i}]")


def _array_names(names: Sequence[str]) -> list[str]:
    """The arrays to read out of those that are there."""
    there = ", ".join(map(repr, sorted(names))) or "none"
    for name in ("x", "y"):
        if name not in names:
            raise UserError(f"array {name}: is missing (arrays in the file: {there}); add it")
    for name, other in (("x_test", "y_test"), ("y_test", "x_test")):
        if name not in names and other in names:
            raise UserError(
                f"array {name}: is missing although {other} is there; save both or none"
            )
    return [name for name in ("x", "y", "x_test", "y_test") if name in names]


def _array(archive: NpzFile, name: str) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except Exception as error:  # numpy and zipfile raise nearly anything when a file is damaged
        if "allow_pickle" in str(error):
            wrong = "holds pickled Python objects; save it as an array of numbers"
        else:
            wrong = "is damaged; save the file again with np.savez"
        raise UserError(f"array {name}: {wrong}") from None


def _read_csv(path: Path, layout: _Layout) -> _Source:
    lines: list[int] = []
    rows: list[_Floats] = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        filled = ((number, _cells(line)) for number, line in enumerate(file, 1) if line.strip())
        for index, (number, cells) in enumerate(filled):
            if index == 0 and not any(map(_is_number, cells)):
                continue  # the header
            lines.append(number)
            rows.append(_row(cells, layout, f"line {number}"))
    table = np.array(rows, np.float64).reshape(len(rows), layout.inputs + layout.columns)
    arrays = {"x": table[:, : layout.inputs], "y": table[:, layout.inputs :]}
    return _Source(arrays, lambda _, i: "file" if i is None else f"line {lines[i]}")


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], skipinitialspace=True))
    except csv.Error:  # longer than any number
        return [line]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _row(cells: list[str], layout: _Layout, place: str) -> _Floats:
    width = layout.inputs + layout.columns
    if len(cells) != width:
        y = _count(layout.columns, "label" if layout.labels else "target")
        raise UserError(
            f"{place}: has {_count(len(cells), 'column')} instead of {width}; "
            f"write {_count(layout.inputs, 'input')}, then {y}"
        )
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        bad = next(reprlib.repr(cell) for cell in cells if not _is_number(cell))
        raise UserError(
            f"{place}: {bad} is not a number; write a number (a header has none, on the first line)"
        ) from None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _train_and_test(source: _Source, layout: _Layout, seed: int) -> tuple[_Pair, _Pair]:
    x, y = _pair(source, "x", "y", layout)
    if "x_test" in source.arrays:
        return (x, y), _pair(source, "x_test", "y_test", layout)
    if len(x) < 2:
        raise UserError("file: 1 sample cannot be split into training and test; add samples")
    order = np.random.RandomState(seed).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    return (x[train], y[train]), (x[test], y[test])


def _pair(source: _Source, x_name: str, y_name: str, layout: _Layout) -> _Pair:
    x = _numbers(source, x_name, layout.x_shapes)
    y = _numbers(source, y_name, layout.y_shapes).reshape(-1, layout.columns)
    if len(x) != len(y):
        raise UserError(
            f"{source.place(y_name, None)}: has {_count(len(y), 'sample')}, but {x_name} has "
            f"{len(x)}; give both the same number of samples"
        )
    if layout.labels:
        _check_labels(source, y_name, y[:, 0], layout.outputs)
    return x.reshape(len(x), *layout.shape), y


def _numbers(source: _Source, name: str, shapes: list[tuple[int, ...]]) -> _Floats:
    """The array, if it is one of finite numbers and a sample has one of the shapes."""
    values, place = source.arrays[name], source.place(name, None)
    if values.dtype.kind not in "biuf":
        raise UserError(f"{place}: holds {values.dtype} instead of numbers; save it as float64")
    if values.shape[:1] == (0,):
        raise UserError(f"{place}: holds no samples; add samples")
    if not values.ndim or values.shape[1:] not in shapes:
        wanted = " or ".join(str(("samples", *shape)).replace("'", "") for shape in shapes)
        raise UserError(f"{place}: has shape {values.shape} instead of {wanted}; reshape it")
    with np.errstate(over="ignore"):  # what float64 cannot hold becomes infinity, found below
        numbers = values.astype(np.float64)
    _check_finite(source, name, numbers)
    return numbers


def _check_finite(source: _Source, name: str, numbers: _Floats) -> None:
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        raise UserError(
            f"{source.place(name, int(bad[0][0]))}: {numbers[tuple(bad[0])]} is not a finite "
            "number; correct it or remove the sample"
        )


def _check_labels(source: _Source, name: str, y: _Floats, outputs: int) -> None:
    bad = np.flatnonzero((y < 0) | (y >= outputs) | (y != np.floor(y)))
    if len(bad):
        label = str(float(y[bad[0]])).removesuffix(".0")
        raise UserError(
            f"{source.place(name, int(bad[0]))}: label {label} is not a whole number from 0 to "
            f"{outputs - 1}; correct it or change the number of outputs"
        )
