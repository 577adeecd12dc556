"""Weights in files: whole, and as they were before anything was folded into them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from given import named

from codegen.errors import UserError
from codegen.interpret import initial_parameters
from codegen.ops.batch_norm import BatchNorm
from codegen.pipeline import make_plan
from codegen.spec import Spec
from codegen.weights import load_weights, whole_weights
from host_sim.device import Device


def everything_learns(spec: Spec) -> Spec:
    layers = (replace(layer, update="all", update_channels=1.0) for layer in spec.layers)
    return replace(spec, layers=tuple(layers), frozen_until="")


def test_splitting_and_folding_can_be_undone(spec: Spec) -> None:
    """Out of the parameters that a network starts with come the whole ones, and back."""
    tensors = make_plan(spec).training.tensors.values()
    start = initial_parameters(tensors, seed=3)
    again = initial_parameters(tensors, 4, whole_weights(tensors, start))
    assert list(again) == list(start)
    for name, values in start.items():
        assert again[name] == pytest.approx(values, rel=1e-12, abs=1e-15), name


def test_what_learns_does_not_change_the_starting_weights() -> None:
    """A layer split in two has the rows of the whole."""
    spec = named("sparse")
    some, all_ = (make_plan(s).training.tensors for s in (spec, everything_learns(spec)))
    whole = initial_parameters(all_.values(), seed=1)
    parts = initial_parameters(some.values(), seed=1)
    joined = np.concatenate([parts["second_first_w"], parts["second_rest_w"]])
    assert np.array_equal(joined, whole["second_w"])


def test_a_folded_layer_computes_the_normalised_one() -> None:
    """w x + b, normalised by the given statistics, for the values that a file has."""
    spec = named("norms")
    tensors = make_plan(spec).training.tensors.values()
    random = np.random.RandomState(0)
    raw = {t.whole[0]: random.standard_normal(t.whole[1]) for t in tensors if t.role == "weight"}
    raw["conv2d1_b"] = np.array([0.5, -1.0, 2.0])
    folded = initial_parameters(tensors, 0, raw)
    norm = spec.layers[2].op
    assert isinstance(norm, BatchNorm)
    x = random.standard_normal(raw["conv2d1_w"].shape[1:])
    plain = np.sum(raw["conv2d1_w"] * x, axis=(1, 2, 3)) + raw["conv2d1_b"]
    mean, variance = np.array(norm.mean), np.array(norm.variance)
    gamma, beta = np.array(norm.gamma), np.array(norm.beta)
    want = gamma * (plain - mean) / np.sqrt(variance + 1e-3) + beta
    got = np.sum(folded["conv2d1_w"] * x, axis=(1, 2, 3)) + folded["conv2d1_b"]
    assert got == pytest.approx(want)


def test_what_one_network_learnt_starts_a_sparse_one(tmp_path: Path) -> None:
    spec = named("sparse")
    teacher = Device(everything_learns(spec), seed=5)
    teacher.save(tmp_path / "w.npz")
    tensors = make_plan(spec).training.tensors.values()
    pupil = Device(spec, parameters=load_weights(tmp_path / "w.npz", tensors))
    want, got = teacher.state().floats(), pupil.state().floats()
    assert np.array_equal(got["second_first_w"], want["second_w"][:2])
    # What does not learn has 8 bits: within half a unit of what was learnt.
    unit = 2.0 ** -pupil.state().f["second_rest_w"]
    assert np.max(np.abs(got["second_rest_w"] - want["second_w"][2:])) <= unit / 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"dense1": np.zeros((32, 64))},
            "array dense1: the network has no such parameter; did you mean 'dense1_w'?",
        ),
        (
            {"dense1_w": np.zeros((64, 32))},
            "array dense1_w: has shape (64, 32) instead of (32, 64)",
        ),
        (
            {"dense1_b": np.full(32, np.nan)},
            "array dense1_b: is not all finite numbers; save it as float64",
        ),
        ({}, "holds no arrays; save weights under their parameters' names"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    tensors = make_plan(named("digits")).training.tensors.values()
    with pytest.raises(UserError) as caught:
        load_weights(path, tensors)
    assert str(caught.value).removeprefix(str(path)).lstrip(": ") == message
