"""Samples come out of .npz and .csv files as promised, and every mistake is named in one line."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.data import Data, load_data
from codegen.errors import UserError

X = np.arange(20.0).reshape(10, 2)
LABELS = np.arange(10) % 3
TARGETS = np.arange(30.0).reshape(10, 3)


def load(path: Path, **changes: Any) -> Data:
    """Two inputs up to 4, three labels or targets up to 10."""
    options: dict[str, Any] = {
        "shape": (2,),
        "outputs": 3,
        "labels": True,
        "input_max": 4.0,
        "target_max": 10.0,
        "seed": 7,
    }
    return load_data(path, **(options | changes))


def mistake(path: Path, **changes: Any) -> str:
    """What the error says after the path."""
    with pytest.raises(UserError) as caught:
        load(path, **changes)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    return path


def text(folder: Path, content: str | bytes) -> Path:
    path = folder / "samples.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def split(values: np.ndarray, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.RandomState(seed).permutation(10)
    return values[order[:8]], values[order[8:]]


def as_csv(x: np.ndarray, y: np.ndarray) -> str:
    table = np.column_stack([x, y])
    return "".join(",".join(str(value) for value in row) + "\n" for row in table.tolist())


def assert_equal(data: Data, x: Any, y: Any, x_test: Any, y_test: Any) -> None:
    np.testing.assert_array_equal(data.x, x, strict=True)
    np.testing.assert_array_equal(data.y, y, strict=True)
    np.testing.assert_array_equal(data.x_test, x_test, strict=True)
    np.testing.assert_array_equal(data.y_test, y_test, strict=True)


# Good files


def test_an_npz_with_its_own_test_samples_is_not_split(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X[:7], y=LABELS[:7], x_test=X[7:], y_test=LABELS[7:])
    assert_equal(load(path), X[:7] / 4, LABELS[:7], X[7:] / 4, LABELS[7:])


def test_one_sample_is_enough_when_the_file_has_its_own_test_samples(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X[:1], y=LABELS[:1], x_test=X[1:2], y_test=LABELS[1:2])
    assert_equal(load(path), X[:1] / 4, LABELS[:1], X[1:2] / 4, LABELS[1:2])


def test_labels_of_an_npz_are_split_four_to_one_with_the_seed(tmp_path: Path) -> None:
    (x, x_test), (y, y_test) = split(X), split(LABELS)
    assert_equal(load(npz(tmp_path, x=X, y=LABELS)), x / 4, y, x_test / 4, y_test)


def test_labels_of_a_csv_are_split_like_those_of_an_npz(tmp_path: Path) -> None:
    (x, x_test), (y, y_test) = split(X), split(LABELS)
    assert_equal(load(text(tmp_path, as_csv(X, LABELS))), x / 4, y, x_test / 4, y_test)


def test_targets_of_an_npz_are_divided_by_their_largest_number(tmp_path: Path) -> None:
    (x, x_test), (y, y_test) = split(X), split(TARGETS)
    data = load(npz(tmp_path, x=X, y=TARGETS), labels=False)
    assert_equal(data, x / 4, y / 10, x_test / 4, y_test / 10)


def test_targets_of_a_csv_are_divided_by_their_largest_number(tmp_path: Path) -> None:
    (x, x_test), (y, y_test) = split(X), split(TARGETS)
    data = load(text(tmp_path, as_csv(X, TARGETS)), labels=False)
    assert_equal(data, x / 4, y / 10, x_test / 4, y_test / 10)


def test_another_seed_splits_otherwise(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=LABELS)
    assert load(path, seed=8).x.tolist() == (split(X, seed=8)[0] / 4).tolist()
    assert load(path, seed=8).x.tolist() != load(path).x.tolist()


@pytest.mark.parametrize("count", range(2, 12))
def test_a_split_leaves_samples_on_both_sides(tmp_path: Path, count: int) -> None:
    data = load(npz(tmp_path, x=np.zeros((count, 2)), y=np.zeros(count)))
    assert len(data.x) == len(data.y) == count * 4 // 5 >= 1
    assert len(data.x_test) == len(data.y_test) == count - len(data.x) >= 1


def test_flat_inputs_get_the_shape_of_the_network(tmp_path: Path) -> None:
    images = np.arange(60.0).reshape(10, 1, 2, 3)
    flat = load(npz(tmp_path, x=images.reshape(10, 6), y=LABELS), shape=(1, 2, 3))
    assert flat.x.shape == (8, 1, 2, 3)
    shaped = load(npz(tmp_path, x=images, y=LABELS), shape=(1, 2, 3))
    assert_equal(shaped, flat.x, flat.y, flat.x_test, flat.y_test)
    lines = load(text(tmp_path, as_csv(images.reshape(10, 6), LABELS)), shape=(1, 2, 3))
    assert_equal(lines, flat.x, flat.y, flat.x_test, flat.y_test)


@pytest.mark.parametrize("kind", ["uint8", "int32", "float32", "float64"])
def test_labels_may_be_a_column_and_of_any_type_while_they_are_whole(
    tmp_path: Path, kind: str
) -> None:
    y, y_test = split(LABELS)
    data = load(npz(tmp_path, x=X.astype(kind), y=LABELS.astype(kind)[:, None]))
    assert data.x.dtype == np.float64
    np.testing.assert_array_equal(data.y, y, strict=True)
    np.testing.assert_array_equal(data.y_test, y_test, strict=True)


@pytest.mark.parametrize("shape", [(10,), (10, 1)])
def test_the_targets_of_one_output_may_be_flat(tmp_path: Path, shape: tuple[int, ...]) -> None:
    y, _ = split(TARGETS[:, :1])
    data = load(npz(tmp_path, x=X, y=TARGETS[:, 0].reshape(shape)), outputs=1, labels=False)
    np.testing.assert_array_equal(data.y, y / 10, strict=True)


def test_inputs_beyond_the_largest_number_are_counted_and_not_clipped(tmp_path: Path) -> None:
    x, x_test = np.array([[4.0, -4.0], [4.5, -8.0]]), np.array([[0.0, -5.0]])
    data = load(npz(tmp_path, x=x, y=[0, 1], x_test=x_test, y_test=[2]))
    assert data.beyond == 3
    assert data.x.tolist() == [[1.0, -1.0], [1.125, -2.0]]
    assert data.x_test.tolist() == [[0.0, -1.25]]


def test_a_csv_may_have_a_header_blank_lines_quotes_and_windows_line_ends(tmp_path: Path) -> None:
    plain = load(text(tmp_path, "1,2,0\n3,4,1\n"))
    dressed = '\ufeff\r\n"width, cm",height,kind\r\n\r\n"1", "2","0"\r\n  \r\n 3 ,4e0,1.0'
    data = load(text(tmp_path, dressed))
    assert_equal(data, plain.x, plain.y, plain.x_test, plain.y_test)


def test_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=LABELS)
    assert load(path.rename(tmp_path / "SAMPLES.NPZ")).x.shape == (8, 2)


def test_further_arrays_are_left_alone(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=LABELS, names=np.array([None, "a"], dtype=object))
    assert load(path).x.shape == (8, 2)


# Mistakes with the file


@pytest.mark.parametrize("name", ["none.npz", "none.csv", "none.txt"])
def test_a_missing_file_is_a_mistake(tmp_path: Path, name: str) -> None:
    assert mistake(tmp_path / name) == "file: does not exist; check the path"


@pytest.mark.parametrize("name", ["folder.npz", "folder.csv"])
def test_a_folder_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert mistake(tmp_path / name) == (
        "file: cannot be read (Is a directory); check that it is a readable file"
    )


def test_the_path_is_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load(Path("a/../none.csv"))
    assert str(caught.value) == "a/../none.csv: file: does not exist; check the path"


def test_another_kind_of_file_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "samples.txt"
    path.write_text("1,2,0\n")
    assert mistake(path) == ("file: is neither .npz nor .csv; save the samples as one of them")


def npy_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"1,2,0\n", b"PK\x03\x04 cut off", pickle.dumps({"x": [1]}), npy_bytes()],
    ids=["empty", "text", "damaged zip", "pickle", "npy"],
)
def test_an_npz_that_is_no_archive_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    assert mistake(path) == ("file: is not an .npz archive or is damaged; save it with np.savez")


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_pickled_array_is_a_mistake(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {"x": X, "y": LABELS} | {name: np.array([None, {}], dtype=object)}
    assert mistake(npz(tmp_path, **arrays)) == (
        f"array {name}: holds pickled Python objects; save it as an array of numbers"
    )


def test_a_damaged_array_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_bytes()[:-8])
        archive.writestr("y.npy", npy_bytes())
    assert mistake(path) == "array x: is damaged; save the file again with np.savez"


@pytest.mark.parametrize(
    ("names", "missing", "there"),
    [("x z", "y", "'x', 'z'"), ("y", "x", "'y'"), ("", "x", "none")],
)
def test_a_missing_array_is_a_mistake(tmp_path: Path, names: str, missing: str, there: str) -> None:
    path = npz(tmp_path, **dict.fromkeys(names.split(), X))
    assert mistake(path) == (f"array {missing}: is missing (arrays in the file: {there}); add it")


@pytest.mark.parametrize(("given", "missing"), [("x_test", "y_test"), ("y_test", "x_test")])
def test_half_of_the_test_samples_is_a_mistake(tmp_path: Path, given: str, missing: str) -> None:
    arrays: dict[str, Any] = {"x": X, "y": LABELS, given: X}
    assert mistake(npz(tmp_path, **arrays)) == (
        f"array {missing}: is missing although {given} is there; save both or none"
    )


# Mistakes with shapes and counts


@pytest.mark.parametrize(
    ("line", "found"),
    [("1,2", "2 columns"), ("1", "1 column"), ("1;2;0", "1 column"), ("1,2,0,", "4 columns")],
)
def test_a_wrong_number_of_columns_is_a_mistake(tmp_path: Path, line: str, found: str) -> None:
    assert mistake(text(tmp_path, f"a,b,c\n\n1,2,0\n{line}\n")) == (
        f"line 4: has {found} instead of 3; write 2 inputs, then 1 label"
    )


def test_a_wrong_number_of_target_columns_is_a_mistake(tmp_path: Path) -> None:
    assert mistake(text(tmp_path, "1,2,0\n"), labels=False, shape=(1,)) == (
        "line 1: has 3 columns instead of 4; write 1 input, then 3 targets"
    )


@pytest.mark.parametrize(
    ("x", "found"),
    [(np.zeros((10, 3)), "(10, 3)"), (np.zeros(10), "(10,)"), (np.float64(1), "()")],
)
def test_inputs_of_another_shape_are_a_mistake(tmp_path: Path, x: Any, found: str) -> None:
    assert mistake(npz(tmp_path, x=x, y=LABELS)) == (
        f"array x: has shape {found} instead of (samples, 2); reshape it"
    )


def test_both_shapes_that_inputs_may_have_are_named(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.zeros((10, 3, 2)), y=LABELS)
    assert mistake(path, shape=(2, 3)) == (
        "array x: has shape (10, 3, 2) instead of (samples, 2, 3) or (samples, 6); reshape it"
    )


def test_labels_of_another_shape_are_a_mistake(tmp_path: Path) -> None:
    assert mistake(npz(tmp_path, x=X, y=np.eye(3)[LABELS])) == (
        "array y: has shape (10, 3) instead of (samples,) or (samples, 1); reshape it"
    )


def test_targets_of_another_shape_are_a_mistake(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=TARGETS, x_test=X, y_test=TARGETS[:, 0])
    assert mistake(path, labels=False) == (
        "array y_test: has shape (10,) instead of (samples, 3); reshape it"
    )


def test_inputs_without_labels_are_a_mistake(tmp_path: Path) -> None:
    assert mistake(npz(tmp_path, x=X, y=LABELS[:1])) == (
        "array y: has 1 sample, but x has 10; give both the same number of samples"
    )
    path = npz(tmp_path, x=X, y=LABELS, x_test=X[:4], y_test=LABELS)
    assert mistake(path) == (
        "array y_test: has 10 samples, but x_test has 4; give both the same number of samples"
    )


@pytest.mark.parametrize("name", ["x", "y", "x_test", "y_test"])
def test_an_empty_array_is_a_mistake(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {"x": X, "y": LABELS, "x_test": X, "y_test": LABELS}
    assert mistake(npz(tmp_path, **(arrays | {name: arrays[name][:0]}))) == (
        f"array {name}: holds no samples; add samples"
    )


@pytest.mark.parametrize("content", ["", "\n \n", "a,b,kind\n"])
def test_a_csv_without_samples_is_a_mistake(tmp_path: Path, content: str) -> None:
    assert mistake(text(tmp_path, content)) == "file: holds no samples; add samples"


def test_one_sample_cannot_be_split(tmp_path: Path) -> None:
    message = "file: 1 sample cannot be split into training and test; add samples"
    assert mistake(npz(tmp_path, x=X[:1], y=LABELS[:1])) == message
    assert mistake(text(tmp_path, "1,2,0\n")) == message


# Mistakes with numbers


@pytest.mark.parametrize(
    ("values", "kind"), [(["a", "b"], "<U1"), ([1j, 2j], "complex128"), ([b"a"], "|S1")]
)
def test_an_array_of_something_else_is_a_mistake(
    tmp_path: Path, values: list[Any], kind: str
) -> None:
    assert mistake(npz(tmp_path, x=X, y=np.array(values))) == (
        f"array y: holds {kind} instead of numbers; save it as float64"
    )


@pytest.mark.parametrize(
    ("content", "line", "cell"),
    [
        ("1,2,0\n\n1,abc,0\n", 3, "'abc'"),
        ("a,b,c\n1,2,\n", 2, "''"),
        ("a,b,c\nd,e,f\n", 2, "'d'"),
        ("1,?,0\n1,2,0\n", 1, "'?'"),
        (b"1,2,0\n1,\xff,0\n", 2, "'\ufffd'"),
        (f"1,2,0\n1,{'a' * 100},0\n", 2, "'aaaaaaaaaaaa...aaaaaaaaaaaaa'"),
    ],
)
def test_a_cell_that_is_no_number_is_a_mistake(
    tmp_path: Path, content: str | bytes, line: int, cell: str
) -> None:
    assert mistake(text(tmp_path, content)) == (
        f"line {line}: {cell} is not a number; "
        "write a number (a header has none, on the first line)"
    )


def test_a_cell_too_long_for_the_csv_module_is_a_mistake(tmp_path: Path) -> None:
    assert mistake(text(tmp_path, f"1,2,0\n1,{'1' * 200_000},0\n")) == (
        "line 2: has 1 column instead of 3; write 2 inputs, then 1 label"
    )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_of_an_npz_that_is_not_finite_is_a_mistake(tmp_path: Path, value: str) -> None:
    x = X.copy()
    x[3, 1] = float(value)
    wrong = f"{value} is not a finite number; correct it or remove the sample"
    assert mistake(npz(tmp_path, x=x, y=LABELS)) == f"x[3]: {wrong}"
    path = npz(tmp_path, x=X, y=LABELS, x_test=X, y_test=x[:, 1])
    assert mistake(path) == f"y_test[3]: {wrong}"


def test_a_number_too_large_for_float64_is_a_mistake(tmp_path: Path) -> None:
    wrong = "inf is not a finite number; correct it or remove the sample"
    assert mistake(text(tmp_path, "1,2,0\n1,1e999,0\n")) == f"line 2: {wrong}"
    x = np.array([[0, 1], [np.finfo(np.longdouble).max, 1]], dtype=np.longdouble)
    if x.dtype != np.float64:
        assert mistake(npz(tmp_path, x=x, y=[0, 1])) == f"x[1]: {wrong}"


@pytest.mark.parametrize("line", ["nan,2,0", "1,NaN,0", "1,2,nan"])
def test_a_number_of_a_csv_that_is_not_finite_is_a_mistake(tmp_path: Path, line: str) -> None:
    assert mistake(text(tmp_path, f"a,b,c\n1,2,0\n\n{line}\n")) == (
        "line 4: nan is not a finite number; correct it or remove the sample"
    )


@pytest.mark.parametrize("label", ["3", "-1", "0.5", "1e+300", "1000000"])
def test_a_label_that_no_output_has_is_a_mistake(tmp_path: Path, label: str) -> None:
    wrong = (
        f"label {label} is not a whole number from 0 to 2; "
        "correct it or change the number of outputs"
    )
    y = LABELS.astype(np.float64)
    y[6] = float(label)
    assert mistake(npz(tmp_path, x=X, y=y)) == f"y[6]: {wrong}"
    path = npz(tmp_path, x=X, y=LABELS, x_test=X, y_test=y)
    assert mistake(path) == f"y_test[6]: {wrong}"
    assert mistake(text(tmp_path, f"a,b,c\n1,2,0\n1,2,{label}\n")) == f"line 3: {wrong}"
