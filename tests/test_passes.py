"""Each pass alone: what goes in, what must hold of what comes out."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from given import PATHS, named
from hypothesis import given
from hypothesis import strategies as st

from codegen.board import Board, load_board
from codegen.fixedpoint import MAX_FRACTION, MAX_WEIGHT_FRACTION, MIN_FRACTION, Q, integers
from codegen.graph import Plan, Policy, Step, TensorFormat, TrainingGraph
from codegen.interpret import (
    IntegerLearner,
    State,
    Values,
    accumulate,
    is_recurrent,
    run_float,
    unrolled_int,
)
from codegen.layout import training_bytes
from codegen.ops.base import Choice, LayerOp, Shape, size
from codegen.passes import differentiate as differentiate_pass
from codegen.passes import plan_memory as memory
from codegen.passes import schedule as schedule_pass
from codegen.passes.build_graph import build_graph
from codegen.passes.choose_forms import Forms
from codegen.passes.differentiate import differentiate
from codegen.passes.freeze import freeze
from codegen.passes.fuse_elementwise import fuse_elementwise
from codegen.passes.fuse_updates import fuse_updates
from codegen.passes.plan_memory import Block
from codegen.passes.schedule import schedule
from codegen.pipeline import Samples, make_plan, make_state, synthetic_samples
from codegen.spec import MODES, Spec, load_spec, parse_spec

HEAD = 'name = "net"\ninput = [4]\nloss = "squared_error"\n'


def network(*layers: str) -> Spec:
    """Layers as `dense name key=value ...`, in short."""
    text = HEAD
    for layer in layers:
        kind, *keys = layer.split()
        text += f'[[layer]]\nkind = "{kind}"\n' + "".join(f"{k}\n" for k in keys)
    return parse_spec(text, "net.toml")


# c is read three times, and once more under another shape.
SHARED = network(
    "dense units=6 name='c'",
    "tanh name='h'",
    "dense units=6 name='d'",
    "add name='s' inputs=['d','h','c']",
    "dense units=2",
)


RECURRENT = parse_spec(
    'name = "net"\ninput = [5, 2]\nloss = "squared_error"\n'
    '[[layer]]\nkind = "simple_rnn"\nname = "first"\nunits = 3\nsequence = true\n'
    '[[layer]]\nkind = "relu"\n'
    '[[layer]]\nkind = "gru"\nunits = 2\n'
    '[[layer]]\nkind = "dense"\nunits = 2\n',
    "net.toml",
)


def names(steps: tuple[Step, ...]) -> list[str]:
    return [step.name for step in steps]


# ---------------------------------------------------------------- build_graph


def test_every_tensor_has_its_layer_s_name_and_its_shape() -> None:
    graph = build_graph(network("dense units=3", "relu name='r'", "dense units=2 bias=false"))
    assert {name: tensor.shape for name, tensor in graph.tensors.items()} == {
        **{"x": (4,), "dense1_w": (3, 4), "dense1_b": (3,), "dense1": (3,), "r": (3,)},
        **{"dense2_w": (2, 3), "dense2": (2,), "target": (2,)},
    }
    assert (graph.scores, graph.outputs) == ("dense2", 2)
    assert [(node.name, node.inputs["x"].tensor) for node in graph.nodes] == [
        *(("dense1", "x"), ("r", "dense1"), ("dense2", "r")),
    ]


def test_a_layer_that_reads_many_is_folded_two_at_a_time() -> None:
    graph = build_graph(SHARED)
    add = [(node.name, [u.tensor for u in node.inputs.values()]) for node in graph.nodes[3:5]]
    assert add == [("s_1", ["d", "h"]), ("s", ["s_1", "c"])]


def test_a_view_is_no_node() -> None:
    text = HEAD.replace("[4]", "[2, 2]") + (
        '[[layer]]\nkind = "flatten"\n[[layer]]\nkind = "dense"\nunits = 2\n'
    )
    graph = build_graph(parse_spec(text, "net.toml"))
    assert [node.name for node in graph.nodes] == ["dense1"]
    use = graph.nodes[0].inputs["x"]
    assert (use.tensor, use.shape, graph.tensors["x"].shape) == ("x", (4,), (2, 2))


# Two channels, given statistics: what a batch normalisation needs to be told.
NORM = "mean=[0.5,-1.0] variance=[1.0,4.0]"


def test_a_normalisation_is_folded_once_and_no_other_is_lost() -> None:
    """The layer before takes up the first; each that stays apart is a layer of its own."""
    graph = build_graph(
        network(
            *("dense units=2", f"batch_norm {NORM} learn=true", f"batch_norm {NORM}"),
            *("dense units=2", f"batch_norm {NORM}", f"batch_norm {NORM}", "dense units=2"),
        )
    )
    assert [(node.name, node.op.kind) for node in graph.nodes] == [
        *(("dense1", "dense"), ("batch_norm1", "scale_shift"), ("batch_norm2", "scale_shift")),
        *(("dense2", "dense"), ("batch_norm4", "scale_shift"), ("dense3", "dense")),
    ]
    folded = [name for name, tensor in graph.tensors.items() if tensor.fold is not None]
    norms = ("batch_norm1", "batch_norm2", "dense2", "batch_norm4")
    assert folded == [f"{name}_{key}" for name in norms for key in "wb"]


def test_the_format_of_a_folded_normalisation_is_that_of_what_is_stored() -> None:
    spec = network("dense units=2", f"batch_norm {NORM} format='Q3.12'", "dense units=2")
    assert str(build_graph(spec).tensors["dense1"].pinned) == "Q3.12"


def test_a_chain_has_the_parameters_of_its_layer() -> None:
    graph = build_graph(RECURRENT)
    assert [node.name for node in graph.nodes] == [
        *("first_input", "first", "relu1"),
        *("gru1_input", "gru1_state", "gru1", "dense1"),
    ]
    assert [t.name for t in graph.tensors.values() if t.role in ("weight", "bias")][:6] == [
        *("first_w", "first_b", "first_u"),
        *("gru1_w", "gru1_b", "gru1_u"),
    ]
    assert {node.owner for node in graph.nodes[3:5]} == {"gru1"}


# ---------------------------------------------------------------- differentiate


def test_errors_of_all_readers_are_summed() -> None:
    training = differentiate(build_graph(SHARED))
    sums = [s for s in training.steps if s.phase == "backward" and s.op.kind == "add"]
    # c: its error through h, and that of the sum, which needs no step of its own.
    assert {s.output: sorted(s.reads.values()) for s in sums} == {
        "d_h": ["d_h_by_d", "d_s"],
        "d_c": ["d_c_by_h", "d_s"],
    }


def test_the_sum_of_errors_is_the_slope_of_the_loss() -> None:
    """Moved along each shared value's own gradient, the loss changes as the error says."""
    training = differentiate(build_graph(SHARED))
    random = np.random.RandomState(0)
    parameters = {t.name: random.standard_normal(t.shape) for t in training.trained}
    x, target = random.uniform(-1, 1, 4), random.uniform(-1, 1, 2)
    _, values = run_float(training, parameters, x, target)
    way, step = random.standard_normal(6), 1e-6
    ends = []
    for sign in (1, -1):
        moved = {**parameters, "c_b": parameters["c_b"] + sign * step * way}
        ends.append(run_float(training, moved, x, target)[0])
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(way @ values["d_c"]), rel=1e-6)


def test_a_missing_input_would_be_noticed() -> None:
    training = differentiate(build_graph(SHARED))
    with pytest.raises(AssertionError):
        differentiate_pass.check(replace(training, steps=training.steps[1:]))


def test_a_gradient_may_read_the_error_that_is_passed_on() -> None:
    training = differentiate(build_graph(RECURRENT))
    step = training.step("d_gru1_u")
    assert step.reads == {"dx": "d_gru1_input", "y": "gru1_state"}
    order = names(training.steps)
    assert order.index("d_gru1_input") < order.index("d_gru1_u")
    assert training.step("d_gru1_input").reads["dy"] == "d_gru1"  # no error of the whole state


# ---------------------------------------------------------------- freeze, fuse


def frozen_prefix() -> TrainingGraph:
    spec = network("dense units=3 frozen=true", "relu", "dense units=3", "relu", "dense units=2")
    return freeze(differentiate(build_graph(spec)))


def test_a_frozen_prefix_has_no_backward_steps_and_keeps_nothing() -> None:
    training = fuse_elementwise(frozen_prefix())
    assert "d_relu1" not in training.tensors
    assert not [s for s in training.steps if "dense1" in s.output and s.phase != "forward"]
    first = training.step("relu1")
    readers = [s.name for s in training.steps if first.output in s.inputs]
    assert readers == ["relu2", "d_dense2_w"]  # its own weights' gradients, nobody else's


def test_the_first_layer_that_learns_has_no_input_gradient() -> None:
    training = freeze(differentiate(build_graph(network("dense units=3", "dense units=2"))))
    assert "d_x" not in training.tensors
    assert [s.output for s in training.phase("backward")] == ["d_dense1"]


def test_an_elementwise_step_on_a_shared_value_works_on_a_copy() -> None:
    training = fuse_elementwise(freeze(differentiate(build_graph(SHARED))))
    assert training.step("h").op.kind == "identity"
    assert training.step("c").finishes == ()


def test_at_batch_1_no_gradient_exists() -> None:
    training = fuse_updates(fuse_elementwise(frozen_prefix()), batch=1)
    assert not [t for t in training.tensors.values() if t.role == "gradient"]
    updated = [s.output for s in training.steps if s.sink is not None]
    assert sorted(updated) == ["dense2_b", "dense2_w", "dense3_b", "dense3_w"]


def test_a_batch_sums_first_and_updates_after() -> None:
    training = fuse_updates(fuse_elementwise(frozen_prefix()), batch=4)
    kinds = {s.sink.kind for s in training.phase("gradient") if s.sink is not None}
    assert kinds == {"accumulate"}
    assert len(training.phase("batch")) == 4


def test_nothing_is_fused_into_a_step_that_reads_what_it_wrote() -> None:
    training = fuse_elementwise(differentiate(build_graph(RECURRENT)))
    assert training.step("first").finishes == ()
    assert training.step("relu1").op.kind == "identity"


# ---------------------------------------------------------------- schedule


def test_an_update_waits_for_the_last_reader(spec: Spec) -> None:
    training = make_plan(spec).training
    for i, step in enumerate(training.steps):
        if step.sink is not None and step.sink.kind == "update":
            assert not [s for s in training.steps[i + 1 :] if step.output in s.inputs]
    assert len(set(names(training.steps))) == len(training.steps)


def test_an_update_before_a_reader_would_be_noticed() -> None:
    fused = fuse_updates(fuse_elementwise(frozen_prefix()), batch=1)
    ordered = schedule(fused)
    early = sorted(ordered.steps, key=lambda s: s.name != "update_dense3_w")
    with pytest.raises(AssertionError, match="update_dense3_w"):
        schedule_pass.check(replace(ordered, steps=tuple(early)))


def test_the_order_does_not_depend_on_the_order_that_comes_in() -> None:
    """But for steps that could change places: all inputs are there when a step runs."""
    fused = fuse_updates(fuse_elementwise(frozen_prefix()), batch=1)
    backwards = schedule(replace(fused, steps=tuple(reversed(fused.steps))))
    ready = {
        "x",
        "target",
        *(t.name for t in fused.tensors.values() if t.role in ("weight", "bias")),
    }
    for step in backwards.steps:
        assert set(step.inputs) <= ready
        ready.add(step.output)


# ---------------------------------------------------------------- leave_out


DROPPING = network(
    "dropout name='a' rate=0.25",
    "dense units=6 name='c'",
    "dropout name='d'",
    "dropout name='e'",
    "relu name='r'",
    "add name='s' inputs=['r', 'd']",
    "dense units=2 name='last'",
)


@pytest.mark.parametrize("gradient", [False, True])
def test_inference_leaves_out_what_is_for_training_only(gradient: bool) -> None:
    training = make_plan(DROPPING, gradient=gradient).training
    forward = [(step.name, [*step.reads.values()]) for step in training.phase("forward")]
    assert forward == [
        *(("a", ["x", "a_seed"]), ("c", ["a", "c_w", "c_b"]), ("d", ["c", "d_seed"])),
        *(
            ("e", ["d", "e_seed"]),
            ("r", ["e"]),
            ("s", ["r", "d"]),
            ("last", ["s", "last_w", "last_b"]),
        ),
    ]
    inference = [(step.name, step.output, [*step.reads.values()]) for step in training.inference]
    assert inference == [
        ("c_inference", "c", ["x", "c_w", "c_b"]),
        ("r_inference", "r", ["c"]),
        ("s_inference", "s", ["r", "c"]),
        ("last", "last", ["s", "last_w", "last_b"]),
    ]


def test_what_inference_reads_is_not_overwritten_before() -> None:
    """c is needed for r and s, which training computes from other numbers."""
    plan = make_plan(DROPPING)
    values = {name: (at, plan.training.tensors[name].size * 2) for name, at in plan.offsets.items()}
    for name in ("d", "e", "r", "s"):
        (at, bytes_), (c_at, c_bytes) = values[name], values["c"]
        assert at + bytes_ <= c_at or c_at + c_bytes <= at, name


def test_each_layer_and_each_sample_has_a_mask_of_its_own() -> None:
    plan = make_plan(DROPPING, gradient=True)
    state = make_state(DROPPING, plan)
    masks = set()
    for state.steps in range(8):
        _, values, _ = IntegerLearner(plan.quantized, state).gradients(
            integers([9, 9, 9, 9]), integers([0, 0])
        )
        _, floats = run_float(plan.training, state.floats(), np.ones(4), np.zeros(2), state.steps)
        for name, before in (("a", "x"), ("d", "c"), ("e", "d")):
            kept = values[name].q != 0
            assert np.array_equal(
                kept[values[before].q != 0], (floats[name] != 0)[values[before].q != 0]
            )
            masks.add((name, *kept))
    assert len(masks) > 16


# ---------------------------------------------------------------- quantize


def extremes(spec: Spec, plan: Plan) -> Samples:
    """Every input at an end of its range."""
    samples = synthetic_samples(spec, plan, 4, seed=1)
    rail = 2 ** (plan.quantized.formats["x"].bits - 1)
    return replace(samples, x=np.where(samples.x < 0, -rail, rail - 1))


@pytest.mark.parametrize(
    ("kinds", "policy", "f"),
    [
        (("tanh", "relu"), "adaptive", 0),
        (("relu", "tanh"), "fixed", 15),
        (("relu6", "tanh"), "fixed", 15),
        (("hard_sigmoid", "tanh"), "fixed", 15),
        (("tanh", "elu"), "adaptive", 0),
    ],
)
def test_the_last_of_fused_ops_decides_the_format(
    kinds: tuple[str, ...], policy: Policy, f: int
) -> None:
    """Nobody reads what comes before it in a frozen prefix."""
    spec = network(
        "dense units=3 frozen=true", *(f"{kind} name='{kind}'" for kind in kinds), "dense units=2"
    )
    quantized = make_plan(spec).quantized
    assert [f.op.kind for f in quantized.training.step(kinds[-1]).finishes] == [*kinds]
    assert quantized.formats[kinds[-1]] == TensorFormat(16, policy, f)


def test_no_accumulator_leaves_its_bound(spec: Spec) -> None:
    """With weights, biases and errors at the ends of their range too."""
    plan = make_plan(spec, gradient=True)
    state = make_state(spec, plan)
    for name, parameter in state.values.items():
        rail = 2 ** (plan.quantized.formats[name].bits - 1)
        state.values[name] = np.where(parameter % 2 == 0, -rail, rail - 1)
    samples = extremes(spec, plan)
    learner = IntegerLearner(plan.quantized, state)
    _, values, _ = learner.gradients(samples.x[0], samples.target[0])
    for step in plan.training.steps:
        if isinstance(step.op, LayerOp) and step.kernel not in step.op.outer:
            bound = plan.quantized.accumulators[step.name].raw_bits
            for acc in accumulators(plan, step, values, state):
                assert int(np.max(np.abs(acc.q))) <= 2**bound, step.name


def accumulators(plan: Plan, step: Step, values: Values, state: State) -> list[Q]:
    if is_recurrent(step):
        return [piece.acc for piece in unrolled_int(plan.quantized, step, values, state)[1]]
    return [accumulate(plan.quantized, step, values)]


def at_the_ends(tensor_format: TensorFormat, shape: Shape) -> Iterator[Q]:
    """Every value at one end of its range, with the fewest and the most fraction bits."""
    most = MAX_WEIGHT_FRACTION if tensor_format.policy == "parameter" else MAX_FRACTION
    rail = 1 << (tensor_format.bits - 1)
    fractions = (tensor_format.f,) if tensor_format.policy == "fixed" else (MIN_FRACTION, most)
    for value, f in itertools.product((-rail, rail - 1), fractions):
        yield Q(np.full(shape, value), f)


# Large ones have the same kernels.
SMALL = [load_spec(path) for path in PATHS if size(load_spec(path).input) <= 300]


@pytest.mark.parametrize("small", SMALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("board", [None, load_board("microbit")], ids=["wide", "short"])
@pytest.mark.parametrize("gradient", [False, True], ids=["training", "gradient"])
def test_the_worst_operands_reach_the_bound_of_an_accumulator_but_no_more(
    small: Spec, mode: str, gradient: bool, board: Board | None
) -> None:
    plan = make_plan(replace(small, mode=mode), board, gradient=gradient)
    state = make_state(replace(small, mode=mode), plan)
    quantized, training, nearest = plan.quantized, plan.training, 0.0
    for step in training.steps:
        if not isinstance(step.op, LayerOp) or step.kernel in step.op.outer:
            continue
        names_ = list(dict.fromkeys(step.reads.values()))
        choices = [
            [integers([0])]
            if training.tensors[n].role == "seed"
            else at_the_ends(quantized.formats[n], training.tensors[n].shape)
            for n in names_
        ]
        for operands in itertools.product(*choices):
            values = dict(zip(names_, operands, strict=True))
            largest = max(np.max(np.abs(a.q)) for a in accumulators(plan, step, values, state))
            worst = float(largest / 2 ** quantized.accumulators[step.name].raw_bits)
            assert worst <= 1, step.name
            nearest = max(nearest, worst)
    assert nearest >= 0.5  # one bit less would not do


# ---------------------------------------------------------------- plan_memory


def test_the_arena_is_near_its_lower_bound(spec: Spec) -> None:
    plan = make_plan(spec)
    assert plan.arena_lower_bound <= plan.arena <= 1.02 * plan.arena_lower_bound


blocks = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 9), st.integers(0, 4)),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        Block(f"b{i}", units * width, width, first, first + length)
        for i, (units, width, first, length) in enumerate(rows)
    ]
)


@given(blocks)
def test_blocks_that_live_together_never_overlap(some: list[Block]) -> None:
    for order in memory._orders(some)[:6]:
        offsets = memory._place(order)
        assert all(offsets[block.name] % block.alignment == 0 for block in some)
        for a, b in itertools.combinations(some, 2):
            first, second = sorted((a, b), key=lambda block: offsets[block.name])
            apart = offsets[first.name] + first.bytes <= offsets[second.name]
            assert apart or not a.meets(b)
        assert memory._extent(some, offsets) >= memory._lower_bound(some) - 3


def test_a_block_may_lie_over_the_one_that_it_reads_last() -> None:
    x = Block("x", 100, 1, 0, 1)
    y = Block("y", 80, 1, 1, 2, {"x": 10})
    assert memory._lower_bound([x, y]) == 112  # 10 before x, and all of x, in whole words
    offsets = memory._place([y, x])
    assert offsets == {"y": 0, "x": 10}


def test_a_block_that_is_written_from_its_end_begins_at_most_so_far_before() -> None:
    x = Block("x", 100, 1, 0, 1)
    y = Block("y", 300, 1, 1, 2, {"x": 20}, goes_back=True)
    other = Block("other", 50, 1, 0, 2)
    assert memory._lower_bound([x, y, other]) == 352
    assert memory._place([other, x, y]) == {"other": 0, "x": 50, "y": 50}
    assert memory._may_lie(y, 30, x, 50)
    assert not memory._may_lie(y, 29, x, 50)
    assert not memory._may_lie(replace(y, goes_back=False), 31, x, 50)


def test_lists_of_masked_errors_lie_where_there_is_room() -> None:
    """Those of the loss are not masked."""
    plan = make_plan(named("autoencoder"))
    lists = {name for name in plan.offsets if name.endswith("_list")}
    assert lists == {f"d_dense{i}_list" for i in range(1, 9)}
    assert memory._extent(memory._blocks(plan.quantized, keep=False), plan.offsets) == plan.arena
    short = make_plan(named("autoencoder"), accumulate="short")
    assert not any(name.endswith("_list") for name in short.offsets)


def defaults(spec: Spec, board: Board | None, *, in_room: bool) -> Forms:
    """Of all steps, with room for scratch or without."""
    forms: dict[str, dict[str, Choice]] = {}
    for step in make_plan(spec, board).training.steps:
        op = replace(step.op).on_core(step.op.core)
        knobs = (op.with_room() if in_room else op).choices(step.kernel, step.shapes)
        forms[step.name] = {knob: choices[0] for knob, choices in knobs.items()}
    return forms


BOARDS = [None, *(load_board(name) for name in ("microbit", "rv32_virt", "mps3_an547"))]


@pytest.mark.parametrize("board", BOARDS, ids=["generic", "m0", "rv32", "m55"])
def test_room_for_what_is_fast_is_in_the_arena_anyway(spec: Spec, board: Board | None) -> None:
    frugal = make_plan(spec, board, forms=defaults(spec, board, in_room=False))
    assert training_bytes(make_plan(spec, board)) <= training_bytes(frugal)


def test_scratch_that_the_arena_has_no_room_for_would_be_noticed() -> None:
    spec = named("conv_digits")
    greedy = make_plan(spec, forms=defaults(spec, None, in_room=True))
    assert training_bytes(greedy) > training_bytes(make_plan(spec))


def walk(plan: Plan, name: str) -> Choice:
    step = plan.training.step(name)
    return step.op.chosen(step.kernel, step.shapes, "walk")


@pytest.mark.parametrize(
    ("mode", "board", "forward", "gradient"),
    [
        ("int16", None, "channels", "rows"),
        ("int16", "microbit", "taps", "rows"),
        ("int16", "stm32vldiscovery", "taps", "columns"),
        ("int16", "mps3_an547", "taps", "columns"),
        ("int8", "mps3_an547", "taps", "rows"),
    ],
)
def test_the_core_decides_what_is_fast(
    mode: str, board: str | None, forward: str, gradient: str
) -> None:
    spec = named("ds_cnn", mode=mode)
    plan = make_plan(spec, load_board(board) if board else None)
    assert (walk(plan, "relu2"), walk(plan, "update_conv2d2_w")) == (forward, gradient)


def test_a_step_is_fast_where_there_is_room_and_nobody_chose() -> None:
    def found(name: str, step: str, forms: Forms) -> Choice:
        return walk(make_plan(named(name), forms=forms), step)

    assert found("gestures", "d_conv1d2", {}) == "rows"
    assert found("gestures", "d_conv1d2", {"d_conv1d2": {"walk": "columns"}}) == "columns"
    assert found("gestures", "d_conv1d2", {"d_conv1d2": {"unroll": 2}}) == "rows"
    assert found("conv_digits", "d_conv2d1", {}) == "columns"
    assert found("conv_digits", "d_conv2d1", {"d_conv2d1": {"walk": "rows"}}) == "rows"


def test_an_overlap_would_be_noticed(spec: Spec) -> None:
    plan = make_plan(spec)
    blocks_ = memory._blocks(plan.quantized, keep=False)
    same = replace(plan, offsets=dict.fromkeys(plan.offsets, 0))
    pairs = [(a, b) for a in blocks_ for b in blocks_ if a is not b and a.meets(b) and not a.over]
    assert pairs
    with pytest.raises(AssertionError):
        memory.check(same, blocks_)
