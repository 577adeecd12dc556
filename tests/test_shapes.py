"""Layers that cannot follow their input: one line that names the layer, what is wrong, the way out."""

import pytest

from codegen.errors import UserError
from codegen.graph import TensorFormat
from codegen.passes.build_graph import build_graph
from codegen.pipeline import make_plan
from codegen.spec import parse_spec

NORM = "mean=[0.5,-1.0] variance=[1.0,4.0]"
SHORTER = "conv1d filters=2 kernel=2 name='a'"


def complaint(shape: list[int], *layers: str, loss: str = "squared_error") -> str:
    """What is said of layers, each `kind key=value ...` in short, after the file and "layer "."""
    text = f'name = "net"\ninput = {shape}\nloss = "{loss}"\n'
    for layer in layers:
        kind, *keys = layer.split()
        text += f'[[layer]]\nkind = "{kind}"\n' + "".join(f"{key}\n" for key in keys)
    with pytest.raises(UserError) as caught:
        build_graph(parse_spec(text, "net.toml"))
    return str(caught.value).removeprefix("net.toml: layer ")


AXES = "(steps, channels) or (rows, columns, channels)"


@pytest.mark.parametrize(
    ("shape", "layer", "message"),
    [
        *(
            ([4], layer, f"{layer.split()[0]} needs {AXES}, its input is (4,)")
            for layer in (
                *("max_pool kernel=2", "average_pool kernel=2"),
                *("global_average_pool", "pad padding=1"),
            )
        ),
        (
            [4, 2],
            "conv2d filters=2 kernel=2",
            "conv2d needs (rows, columns, channels), its input is (4, 2)",
        ),
        (
            [4, 2],
            "depthwise_conv2d kernel=2",
            "depthwise_conv2d needs (rows, columns, channels), its input is (4, 2)",
        ),
        ([4], "conv1d filters=2 kernel=2", "conv1d needs (steps, channels), its input is (4,)"),
    ],
)
def test_an_input_without_the_axes_of_a_window(shape: list[int], layer: str, message: str) -> None:
    kind = layer.split()[0]
    assert complaint(shape, layer) == f"1 ({kind}1): {message}; put a reshape before it"


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ([4, 2], "kernel=5", "a 5 kernel does not fit in 4; take a smaller one"),
        (
            [4, 3, 2],
            "kernel=[2,6] padding=1",
            "a 2 x 6 kernel does not fit in 6 x 5; take a smaller one",
        ),
        ([4, 2], "kernel=0", "kernel = 0: it must be a number of at least 1"),
        (
            [4, 4, 2],
            "kernel=[2,2,2]",
            "kernel = [2, 2, 2]: it must be a number or 2 numbers of at least 1",
        ),
        ([4, 2], "kernel=2 stride=0", "stride = 0: it must be a number of at least 1"),
        (
            [4, 4, 2],
            "kernel=2 stride=[1,-1]",
            "stride = [1, -1]: it must be a number or 2 numbers of at least 1",
        ),
        (
            [4, 4, 2],
            "kernel=2 padding=2",
            "the padding is not smaller than the 2 x 2 kernel; pad less",
        ),
        (
            [4, 2],
            "kernel=2 padding='full'",
            "padding = 'full': it must be 'same', 'valid', a number for every side, or 2 numbers "
            "(before, after), none of them below 0",
        ),
        (
            [4, 4, 2],
            "kernel=2 padding=[1,0,1]",
            "padding = [1, 0, 1]: it must be 'same', 'valid', a number for every side, or 4 (top, "
            "bottom, left, right), none of them below 0",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["max_pool", "average_pool", "conv"])
def test_a_window_that_does_not_fit(kind: str, shape: list[int], keys: str, message: str) -> None:
    kind = f"conv{len(shape) - 1}d" if kind == "conv" else kind
    filters = " filters=2" if kind.startswith("conv") else ""
    assert complaint(shape, f"{kind} {keys}{filters}") == f"1 ({kind}1): {message}"


def test_a_dilated_kernel_that_does_not_fit() -> None:
    message = "a 5 kernel (dilated) does not fit in 4; take a smaller one"
    layer = "conv1d filters=2 kernel=3 dilation=2"
    assert complaint([4, 2], layer) == f"1 (conv1d1): {message}"


@pytest.mark.parametrize("groups", [0, 2])
def test_groups_that_do_not_divide(groups: int) -> None:
    assert complaint([4, 3], f"conv1d filters=4 kernel=2 groups={groups}") == (
        f"1 (conv1d1): groups = {groups} divides not both, 3 channels and 4 filters; choose a "
        "common divisor"
    )


@pytest.mark.parametrize(
    ("padding", "shown"), [("'same'", "'same'"), ("-1", "-1"), ("[1,2,3]", "[1, 2, 3]")]
)
def test_a_pad_is_told_in_numbers(padding: str, shown: str) -> None:
    assert complaint([4, 4, 2], f"pad padding={padding}") == (
        f"1 (pad1): padding = {shown}: it must be a number for every side, or 4 (top, bottom, "
        "left, right), none of them below 0"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "add",
            "add needs inputs of one shape, these are (4, 2) and (3, 2); a conv1d, conv2d or dense "
            "before one of them gives it the shape of the other",
        ),
        (
            "multiply",
            "multiply needs inputs of one shape, or a second one of 2 numbers, one for each "
            "channel of the first; these are (4, 2) and (3, 2)",
        ),
        (
            "concatenate",
            "concatenate needs inputs that differ in channels only, these are (4, 2) and (3, 2); "
            "pad or pool one of them",
        ),
    ],
)
def test_two_inputs_that_do_not_fit_each_other(kind: str, message: str) -> None:
    layers = (SHORTER, f"{kind} inputs=['input','a']", "flatten", "dense units=2")
    assert complaint([4, 2], *layers) == f"2 ({kind}1): {message}"


@pytest.mark.parametrize("kind", ["add", "multiply", "concatenate"])
def test_an_op_of_two_inputs_needs_them(kind: str) -> None:
    assert complaint([4, 2], f"{kind} inputs=['input']", "flatten", "dense units=2") == (
        f'1 ({kind}): {kind} reads at least 2 inputs; write inputs = ["one", "other"]'
    )


EACH = "mean, variance, gamma and beta need one number for each channel"
POSITIVE = "variance must not be negative, and epsilon must be positive"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("mean=[0.5] variance=[1.0,2.0]", EACH),
        ("mean=[] variance=[]", EACH),
        ("mean=[0.5] variance=[1.0] gamma=[1.0,2.0]", EACH),
        ("mean=[nan] variance=[1.0]", "mean, gamma and beta must be finite"),
        ("mean=[0.5] variance=[1.0] beta=[inf]", "mean, gamma and beta must be finite"),
        ("mean=[0.5] variance=[-1.0]", POSITIVE),
        ("mean=[0.5] variance=[1.0] epsilon=0.0", POSITIVE),
        (
            "mean=[0.5,1200.0] variance=[1.0,4.0] epsilon=1e-9",
            "channel 1 has the factor 0.5 and the addend -600; both must be below 512: divide what "
            "comes in, as input_max does",
        ),
        (
            "mean=0.5 variance=[1.0]",
            "mean = 0.5; it must be a list of numbers, such as mean = [0.5, 1.0]",
        ),
        ("variance=[1.0]", "key 'mean' is missing; write mean = [0.5, 1.0]"),
    ],
)
def test_statistics_that_are_none(keys: str, message: str) -> None:
    assert complaint([2], f"batch_norm {keys}") == f"1 (batch_norm): {message}"


@pytest.mark.parametrize(
    ("before", "keys", "message"),
    [
        (
            "dense units=3",
            "",
            "batch_norm has numbers for 2 channels, its input has 3; give each channel its own",
        ),
        (
            "dense units=2",
            "update='none'",
            "batch_norm is folded into dense1; say what learns there, or learn = true",
        ),
        (
            "dense units=2 format='Q3.12'",
            "format='Q2.13'",
            "dense1 sets the format of the same values; remove one of them",
        ),
    ],
)
def test_a_normalisation_that_cannot_be_folded(before: str, keys: str, message: str) -> None:
    layers = (before, f"batch_norm {NORM} {keys}", "dense units=2")
    assert complaint([4], *layers) == f"2 (batch_norm1): {message}"


@pytest.mark.parametrize("kind", ["max_pool kernel=2", "pad padding=1", "global_average_pool"])
def test_what_has_no_parameters_cannot_learn(kind: str) -> None:
    name = kind.split()[0]
    assert complaint([4, 2], f"{kind} update='bias'") == (
        f"1 ({name}1): {name} has no parameters; remove update"
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            ("add inputs=['input','b']", "dense units=4 name='b'"),
            "1 (add): inputs: 'b' does not come before it, which would be a cycle; name layers "
            "above it",
        ),
        (
            ("dense units=4 name='a' inputs=['a']",),
            "1 (a): inputs: 'a' does not come before it, which would be a cycle; name layers "
            "above it",
        ),
        (
            ("dense units=4 name='first'", "add inputs=['input','frist']"),
            "2 (add): inputs: unknown layer 'frist'; did you mean 'first'?",
        ),
        (
            ("dense units=4", "dense units=2 name='b' inputs=['input']"),
            "1 (dense): nobody reads 'dense1'; remove it or name it in the inputs of a layer",
        ),
        (
            ("dense units=4 name='a'", "relu name='b' inputs=['a','input']"),
            "2 (b): relu reads one input, inputs names 2",
        ),
    ],
)
def test_a_graph_that_is_none(layers: tuple[str, ...], message: str) -> None:
    assert complaint([4], *layers) == message


SCORES = "dense units=3"
CLASSES = "softmax_cross_entropy"


@pytest.mark.parametrize(
    ("loss", "layers", "message"),
    [
        (
            "squared_error",
            [SCORES, "softmax"],
            "2 (softmax1): softmax goes with softmax_cross_entropy, which sees the scores before "
            "it; write loss = 'softmax_cross_entropy' or remove the layer",
        ),
        (
            CLASSES,
            [SCORES, "softmax", SCORES],
            "2 (softmax1): softmax can only be the last layer; put it last or remove it",
        ),
        (
            CLASSES,
            [SCORES, "softmax", "softmax"],
            "2 (softmax1): softmax can only be the last layer; put it last or remove it",
        ),
        (
            CLASSES,
            [SCORES, "softmax frozen=true"],
            "2 (softmax1): softmax has no parameters; remove frozen",
        ),
        (
            CLASSES,
            [SCORES, "softmax format='Q1.7'"],
            "2 (softmax): the range of softmax fixes the format; remove format",
        ),
        (
            CLASSES,
            ["dense units=1", "softmax"],
            "2 (softmax1): softmax_cross_entropy needs at least 2 outputs, this layer has 1; one "
            "output goes with squared_error",
        ),
    ],
)
def test_a_softmax_that_cannot_be(loss: str, layers: list[str], message: str) -> None:
    assert complaint([4], *layers, loss=loss) == message


def test_the_format_of_scores_before_a_softmax_has_their_16_bits() -> None:
    text = f'name = "net"\ninput = [4]\nloss = "{CLASSES}"\n[numbers]\nmode = "int8"\n'
    text += '[[layer]]\nkind = "dense"\nunits = 3\nformat = "Q6.10"\n[[layer]]\nkind = "softmax"\n'
    formats = make_plan(parse_spec(text, "net.toml")).quantized.formats
    assert formats["dense1"] == TensorFormat(16, "fixed", 10)
    assert formats["softmax1"] == TensorFormat(16, "fixed", 15)


@pytest.mark.parametrize("rate", [-0.5, 0, 1, 1.5])
def test_a_dropout_that_drops_nothing_or_all(rate: float) -> None:
    assert complaint([4], f"dropout rate={rate}", SCORES) == (
        f"1 (dropout): rate = {float(rate)}: it must be above 0 and below 1"
    )


@pytest.mark.parametrize(
    ("loss", "layers", "place"),
    [
        ("squared_error", [SCORES, "dropout"], "2 (dropout1)"),
        (CLASSES, [SCORES, "dropout", "softmax"], "3 (softmax1)"),
        ("squared_error", ["dense units=4", "dropout", "flatten"], "3 (flatten1)"),
    ],
)
def test_scores_that_inference_does_not_have(loss: str, layers: list[str], place: str) -> None:
    assert complaint([4], *layers, loss=loss) == (
        f"{place}: the scores are what dropout leaves, and inference has none; remove it or put a "
        "layer behind it"
    )
