"""What many tests begin with: the networks of tests/networks, and their plans, made once."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from codegen.board import Board, load_board
from codegen.graph import Plan
from codegen.interpret import State
from codegen.pipeline import make_plan, make_state
from codegen.spec import MODES, Spec, load_spec
from host_sim.emulator import core_names, missing_emulators

NETWORKS = Path(__file__).parent / "networks"
PATHS = sorted(NETWORKS.glob("*.toml"))
SHORT = load_board("microbit")  # rounds complete sums to 32 bits
# Networks that tests meet in every mode; those that take long to compile in one; others in two.
THOROUGH = ("conv_digits", "digits", "gru", "pools", "residual", "w4", "xor_gate")
LONG = ("autoencoder", "ds_cnn", "gru_keywords", "mobilenet_v1", "mobilenet_v2", "resnet8")
EVERYWHERE = ("xor_gate", "digits", "w4")  # meet every compiler and level in each mode
NO_SKIP = os.environ.get("MCUGRAD_NO_SKIP") == "1"  # what is missing is a failure


def modes_of(path: Path) -> tuple[str, ...]:
    """The modes that a network is met in, which take turns: kernels of layers have tests of their
    own in all.
    """
    if path.stem in THOROUGH:
        return MODES
    if path.stem in LONG:
        return (MODES[LONG.index(path.stem) % len(MODES)],)
    first, *others = MODES
    return first, others[PATHS.index(path) % len(others)]


SPECS = [(path, mode) for path in PATHS for mode in modes_of(path)]


def lacking(what: str) -> NoReturn:
    """The test that needs it is skipped, in CI it fails."""
    if NO_SKIP:
        pytest.fail(what)
    pytest.skip(what)


def named(name: str, **changes: Any) -> Spec:
    """A network of tests/networks."""
    return replace(load_spec(NETWORKS / f"{name}.toml"), **changes)


@cache
def planned(spec: Spec, board: Board | None = None) -> tuple[Plan, State]:
    """Its plan and starting state, made once for all tests; the state is for reading only."""
    plan = make_plan(spec, board)
    return plan, make_state(spec, plan)


def core_case(core: str, *values: Any) -> Any:
    """A case of a test that needs an emulated core, and has its name or these values.

    Where the core has no emulator here it is skipped, in CI it fails.
    """
    line = missing_emulators().get(core)
    marks = [pytest.mark.skip(reason=line)] if line is not None and not NO_SKIP else []
    return pytest.param(*(values or (core,)), marks=marks)


CORES = [core_case(core) for core in core_names()]
