"""Network files: every key arrives in the Spec, and every mistake is one whole line."""

import hashlib
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest

from codegen.errors import UserError
from codegen.fixedpoint import Format
from codegen.ops import LAYERS
from codegen.ops.adam import Adam
from codegen.ops.base import Extent, Numbers, Padding, Shape
from codegen.ops.dense import Dense
from codegen.ops.leaky_relu import LeakyRelu
from codegen.ops.momentum import Momentum
from codegen.ops.nesterov import Nesterov
from codegen.ops.relu import Relu
from codegen.ops.rmsprop import Rmsprop
from codegen.ops.sgd import Sgd
from codegen.ops.sigmoid import Sigmoid
from codegen.ops.softmax_cross_entropy import SoftmaxCrossEntropy
from codegen.ops.squared_error import SquaredError
from codegen.spec import RESERVED_NAMES, Layer, Spec, load_spec, parse_spec

HEAD = 'name = "net"\ninput = [4]\nloss = "squared_error"\n'
LAYER = '[[layer]]\nkind = "dense"\nunits = 2\n'
RELU = '[[layer]]\nkind = "relu"\n'
SIGMOID = '[[layer]]\nkind = "sigmoid"\n'
NORM = '[[layer]]\nkind = "batch_norm"\nmean = [0.0]\nvariance = [1.0]\n'
NET = HEAD + LAYER
FULL = """\
name = "digits"
input = [8, 8]
input_max = 16
loss = "squared_error"
target_max = 8.0

[numbers]
mode = "int8"

[training]
learning_rate = 0.01
momentum = 0.9
batch = 16
rounding = "nearest"

[[layer]]
kind = "dense"
units = 32
bias = false
frozen = true
format = "Q3.5"

[[layer]]
kind = "leaky_relu"
slope = 0.25

[[layer]]
kind = "dense"
name = "scorer"
units = 10
"""
IDENTIFIER = "it must be letters, digits and single underscores between them, a letter first"
RATE = "it must be 0, or from 2**-24 to 255"


def training(line: str) -> str:
    return f"{HEAD}[training]\n{line}\n{LAYER}"


def in_mode(mode: str, *layers: str) -> str:
    return f'{HEAD}[numbers]\nmode = "{mode}"\n' + "".join(layers)


def complaint(text: str) -> str:
    """The message, which is one line, without the name of the file."""
    with pytest.raises(UserError) as caught:
        parse_spec(text, "net.toml")
    message = str(caught.value)
    assert message.startswith("net.toml: ")
    assert "\n" not in message
    return message.removeprefix("net.toml: ")


def test_every_key_arrives() -> None:
    assert parse_spec(FULL, "a/digits.toml") == Spec(
        name="digits",
        input=(8, 8),
        layers=(
            Layer(Dense(32, bias=False), "dense1", frozen=True, format=Format(3, 5)),
            Layer(LeakyRelu(0.25), "leaky_relu1"),
            Layer(Dense(10), "scorer"),
        ),
        loss=SquaredError(),
        input_max=16.0,
        target_max=8.0,
        mode="int8",
        learning_rate=0.01,
        optimizer=Momentum(0.9),
        batch=16,
        rounding="nearest",
        source="a/digits.toml",
        digest=hashlib.sha256(FULL.encode()).hexdigest(),
    )


def test_what_is_left_out_has_the_defaults_of_a_spec() -> None:
    built = Spec("net", (4,), (Layer(Dense(2), "dense1"),), SquaredError())
    assert replace(parse_spec(NET, "<spec>"), digest="") == built


def test_layers_are_named_by_kind_and_running_number() -> None:
    layers = parse_spec(HEAD + LAYER + RELU + LAYER + RELU, "net.toml").layers
    assert [layer.name for layer in layers] == ["dense1", "relu1", "dense2", "relu2"]


def test_a_named_layer_counts_too() -> None:
    layers = parse_spec(HEAD + LAYER + 'name = "fc"\n' + LAYER, "net.toml").layers
    assert [layer.name for layer in layers] == ["fc", "dense2"]


def test_a_whole_number_does_for_a_float() -> None:
    assert isinstance(parse_spec(training("learning_rate = 1"), "").learning_rate, float)


def test_momentum_chooses_the_optimizer() -> None:
    assert parse_spec(NET, "net.toml").optimizer == Sgd()
    assert parse_spec(training("momentum = 0"), "net.toml").optimizer == Sgd()
    assert parse_spec(training("momentum = 0.5"), "net.toml").optimizer == Momentum(0.5)


def test_an_optimizer_is_a_kind_or_a_table_with_its_keys() -> None:
    for line, optimizer in (
        ('optimizer = "adam"', Adam()),
        ('optimizer = "momentum"', Momentum(0.9)),
        ('optimizer = { kind = "adam", beta1 = 0.8, epsilon = 1e-6 }', Adam(1e-6, 0.8, 0.999)),
        ('optimizer = { kind = "rmsprop", beta2 = 0.99 }', Rmsprop(beta2=0.99)),
        ('optimizer = { kind = "nesterov", momentum = 0.8 }', Nesterov(0.8)),
    ):
        assert parse_spec(training(line), "net.toml").optimizer == optimizer


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('optimizer = "adm"', "unknown optimizer 'adm'; did you mean 'adam'?"),
        (
            'optimizer = { kind = "adam", beta = 0.9 }',
            "optimizer: unknown key 'beta'; did you mean 'beta2'?",
        ),
        (
            'optimizer = "sgd"\nmomentum = 0.5',
            "momentum belongs to the optimizer; write optimizer = "
            '{ kind = "momentum", momentum = 0.5 }',
        ),
        (
            'optimizer = { kind = "nesterov", momentum = 1.0 }',
            "optimizer: momentum = 1.0; it must be above 0 and below 1",
        ),
        (
            'optimizer = { kind = "adam", beta1 = 1.0 }',
            "optimizer: beta1 = 1.0; it must be at least 0 and below 1",
        ),
        (
            'optimizer = { kind = "rmsprop", beta2 = -0.5 }',
            "optimizer: beta2 = -0.5; it must be at least 0 and below 1",
        ),
        (
            'optimizer = { kind = "adam", epsilon = 0.0 }',
            "optimizer: epsilon = 0.0; it must be from 2**-60 to 2**16",
        ),
        (
            'optimizer = "adam"\nrounding = "nearest"',
            "rounding = 'nearest' makes weights run away with adam; write rounding = 'stochastic'",
        ),
        (
            'weight_decay = 0.1\nrounding = "nearest"',
            "rounding = 'nearest' loses all of weight_decay; write rounding = 'stochastic'",
        ),
        ("weight_decay = 1.5", "weight_decay = 1.5; it must be from 0 to 1"),
        ("weight_decay = nan", "weight_decay = nan; it must be from 0 to 1"),
        ("clip_norm = 1e5", "clip_norm = 100000.0; it must be from 2**-16 to 2**16, or 0 for none"),
        ("clip_norm = -1", "clip_norm = -1.0; it must be from 2**-16 to 2**16, or 0 for none"),
    ],
)
def test_what_an_optimizer_cannot_do_is_refused(lines: str, message: str) -> None:
    assert complaint(training(lines)) == f"[training]: {message}"


def test_a_layer_has_a_rate_of_its_own_where_it_learns() -> None:
    assert parse_spec(NET, "net.toml").layers[0].learning_rate_multiplier == 1
    text = NET + "learning_rate_multiplier = 0.5\n"
    assert parse_spec(text, "net.toml").layers[0].learning_rate_multiplier == 0.5
    assert complaint(NET + "learning_rate_multiplier = 0.0\n") == (
        "layer 1 (dense): learning_rate_multiplier = 0.0; it must be from 2**-16 to 256; "
        "a layer that shall not learn is frozen"
    )
    assert complaint(NET + RELU + "learning_rate_multiplier = 2.0\n") == (
        "layer 2 (relu): relu has no parameters; remove learning_rate_multiplier"
    )


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        parse_spec(NET, "net.toml").batch = 2  # type: ignore[misc]


@pytest.mark.parametrize("op", LAYERS.values())
def test_every_key_of_every_op_has_a_type_that_a_file_can_hold(op: type) -> None:
    assert {get_type_hints(op)[key.name] for key in fields(op)} <= {
        *(int, float, bool, str, Shape, Extent, Numbers, Padding)
    }


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate = 0",
        "learning_rate = 255",
        "learning_rate = 5.9604644775390625e-8",
        "momentum = 0.999",
        "batch = 256",
    ],
)
def test_the_limits_themselves_are_allowed(line: str) -> None:
    parse_spec(training(line), "net.toml")


@pytest.mark.parametrize(
    ("mode", "format", "rest"),
    [
        ("int16", "Q4.12", RELU + LAYER),
        ("int8", "Q4.4", RELU + LAYER),
        ("int8", "Q4.12", ""),
        ("int8_compact", "Q4.12", RELU),
        ("int16", "Q1.0", LAYER),
    ],
)
def test_a_format_may_fill_what_the_mode_stores(mode: str, format: str, rest: str) -> None:
    spec = parse_spec(in_mode(mode, LAYER, f'format = "{format}"\n', rest), "net.toml")
    assert str(spec.layers[0].format) == format


def test_line_ends_do_not_change_the_digest(tmp_path: Path) -> None:
    unix, windows = tmp_path / "unix.toml", tmp_path / "windows.toml"
    unix.write_bytes(FULL.encode())
    windows.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert replace(load_spec(windows), source=str(unix)) == load_spec(unix)
    assert load_spec(unix).digest == hashlib.sha256(FULL.encode()).hexdigest()


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_spec(Path("nets/net.toml"))
    assert str(caught.value) == "nets/net.toml: there is no such file; check the path"


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_spec(tmp_path)
    assert str(caught.value) == f"{tmp_path}: this is a folder; name the network file in it"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "net.toml").touch()
    path = tmp_path / "net.toml" / "net.toml"
    with pytest.raises(UserError) as caught:
        load_spec(path)
    assert str(caught.value) == f"{path}: cannot be read (Not a directory); check the file"


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_bytes(b"# one\n# two\n# gr\xfc\xdf\n")
    with pytest.raises(UserError) as caught:
        load_spec(path)
    assert str(caught.value) == f"{path}: line 3: not UTF-8; save the file as UTF-8"


TOML = "see toml.io for how to write it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "net"\ninput == [4]\n', "line 2, column 8: Invalid value; " + TOML),
        ('name = "net"\r\ninput == [4]\r\n', "line 2, column 8: Invalid value; " + TOML),
        ('name = "net"\ninput = "4', "line 2, column 11: Unterminated string; " + TOML),
        ("name = ", "line 1, column 8: Invalid value; " + TOML),
        (
            "a = " + "9" * 5000,
            "a value is too long or nested too deeply; shorten it",
        ),
    ],
)
def test_a_syntax_mistake_has_line_and_column(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('los = "x"\n' + NET, "unknown key 'los'; did you mean 'loss'?"),
        (
            "zebra = 1\n" + NET,
            "unknown key 'zebra'; known: name, input, input_max, loss, target_max, frozen_until, numbers, "
            "training, layer",
        ),
        (
            '"a\\nb" = 1\n' + NET,
            "unknown key 'a\\nb'; known: name, input, "
            "input_max, loss, target_max, frozen_until, numbers, training, layer",
        ),
        (
            training("rate = 1"),
            "[training]: unknown key 'rate'; known: learning_rate, schedule, optimizer, momentum, weight_decay, clip_norm, batch, rounding",
        ),
        (training("momemtum = 0"), "[training]: unknown key 'momemtum'; did you mean 'momentum'?"),
        (HEAD + "[numbers]\nbits = 3\n" + LAYER, "[numbers]: unknown key 'bits'; known: mode"),
        (NET + "unit = 2\n", "layer 1 (dense): unknown key 'unit'; did you mean 'units'?"),
        (
            NET + 'name = "fc"\nslope = 2\n',
            "layer 1 (fc): unknown key 'slope'; known: kind, name, inputs, frozen, update, update_channels, learning_rate_multiplier, format, units, bias",
        ),
        (
            NET + RELU + "units = 2\n",
            "layer 2 (relu): unknown key 'units'; known: kind, name, inputs, frozen, update, update_channels, learning_rate_multiplier, format",
        ),
    ],
)
def test_an_unknown_key_is_told_the_nearest_one_or_all(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NET + '[[layer]]\nkind = "sigmod"\n', "unknown kind 'sigmod'; did you mean 'sigmoid'?"),
        (
            NET + '[[layer]]\nkind = "conv3d"\n',
            "unknown kind 'conv3d'; did you mean 'conv2d'?",
        ),
    ],
)
def test_an_unknown_kind_is_told_the_nearest_one_or_all(text: str, message: str) -> None:
    assert complaint(text) == f"layer 2: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NET.replace("squared", "square"),
            "unknown loss 'square_error'; did you mean 'squared_error'?",
        ),
        (
            NET.replace("squared_error", "MSE"),
            "unknown loss 'MSE'; known: softmax_cross_entropy, squared_error, "
            "binary_cross_entropy, huber, absolute_error, hinge",
        ),
        (in_mode("INT8", LAYER), "[numbers]: unknown mode 'INT8'; did you mean 'int8'?"),
        (
            in_mode("float", LAYER),
            "[numbers]: unknown mode 'float'; known: int16, int8, int8_compact",
        ),
        (
            training('rounding = "stocastic"'),
            "[training]: unknown rounding 'stocastic'; did you mean 'stochastic'?",
        ),
        (
            training('rounding = "up"'),
            "[training]: unknown rounding 'up'; known: stochastic, nearest",
        ),
    ],
)
def test_an_unknown_word_is_told_the_nearest_one_or_all(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 'name' is missing; write name = \"tiny\""),
        ('name = "net"\n' + LAYER, "key 'input' is missing; write input = [64]"),
        (
            'name = "net"\ninput = [4]\n' + LAYER,
            "key 'loss' is missing; write loss = \"softmax_cross_entropy\"",
        ),
        (HEAD, "there is no layer; add one under [[layer]]"),
        (HEAD + "layer = []\n", "there is no layer; add one under [[layer]]"),
        (NET + "[[layer]]\nunits = 2\n", "layer 2: key 'kind' is missing; write kind = \"dense\""),
        (
            HEAD + '[[layer]]\nkind = "dense"\n',
            "layer 1 (dense): key 'units' is missing; write units = 1",
        ),
    ],
)
def test_a_missing_key_is_named(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NET.replace('"net"', "5"),
            'name = 5; it must be a text in quotes, such as name = "tiny"',
        ),
        (
            NET.replace("[4]", "4"),
            "input = 4; it must be a list of whole numbers, such as input = [64]",
        ),
        (
            NET.replace("[4]", "[4, 2.0]"),
            "input = [4, 2.0]; it must be a list of whole numbers, such as input = [64]",
        ),
        (
            NET.replace("[4]", "[true]"),
            "input = [True]; it must be a list of whole numbers, such as input = [64]",
        ),
        (
            'input_max = "16"\n' + NET,
            "input_max = '16'; it must be a number, such as input_max = 1.0",
        ),
        (
            NET.replace('"squared_error"', "[]"),
            'loss = []; it must be a text in quotes or a table with a kind, such as loss = "softmax_cross_entropy"',
        ),
        ("training = 3\n" + NET, "training = 3; it must be a table, such as [training]"),
        (
            NET + "[[numbers]]\n",
            "numbers = [{}]; it must be a table, such as [numbers]",
        ),
        (
            HEAD + LAYER.replace("[[layer]]", "[layer]"),
            "layer = {'kind': 'dense', 'units': 2}; it must be a list of tables, such as [[layer]]",
        ),
        (
            training("batch = 1.0"),
            "[training]: batch = 1.0; it must be a whole number, such as batch = 1",
        ),
        (
            training("batch = true"),
            "[training]: batch = true; it must be a whole number, such as batch = 1",
        ),
        (
            training("momentum = false"),
            "[training]: momentum = false; it must be a number, such as momentum = 1.0",
        ),
        (
            training("rounding = 1979-05-27"),
            "[training]: rounding = datetime.date(1979, 5, 27); it must be a text in quotes, "
            'such as rounding = "stochastic"',
        ),
        (
            HEAD + "[[layer]]\nkind = 1\n",
            'layer 1: kind = 1; it must be a text in quotes, such as kind = "dense"',
        ),
        (
            NET + "name = 1\n",
            'layer 1 (dense): name = 1; it must be a text in quotes, such as name = "tiny"',
        ),
        (
            NET + "frozen = 1\n",
            "layer 1 (dense): frozen = 1; it must be true or false, such as frozen = true",
        ),
        (
            NET + "format = 3.12\n",
            'layer 1 (dense): format = 3.12; it must be a text in quotes, such as format = "Q3.12"',
        ),
        (
            NET.replace("units = 2", "units = '2'"),
            "layer 1 (dense): units = '2'; it must be a whole number, such as units = 1",
        ),
        (
            NET + "bias = 0\n",
            "layer 1 (dense): bias = 0; it must be true or false, such as bias = true",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_shown(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", f"name = ''; {IDENTIFIER}"),
        ("my net", f"name = 'my net'; {IDENTIFIER}"),
        ("1net", f"name = '1net'; {IDENTIFIER}"),
        ("_net", f"name = '_net'; {IDENTIFIER}"),
        ("net_", f"name = 'net_'; {IDENTIFIER}"),
        ("my__net", f"name = 'my__net'; {IDENTIFIER}"),
        ("größe", f"name = 'größe'; {IDENTIFIER}"),
        ("net\\n", f"name = 'net\\n'; {IDENTIFIER}"),
        (
            "a" * 32,
            f"name = '{'a' * 12}...{'a' * 13}'; it has 32 characters; at most 31 are allowed",
        ),
        ("while", "name = 'while'; that is a keyword of C or C++; choose another"),
        ("class", "name = 'class'; that is a keyword of C or C++; choose another"),
        ("main", "name = 'main'; the C code uses that name itself; choose another"),
        ("memcpy", "name = 'memcpy'; the C code uses that name itself; choose another"),
        ("int8_t", "name = 'int8_t'; the C code uses that name itself; choose another"),
    ],
)
def test_a_name_must_be_free_in_c(name: str, message: str) -> None:
    assert complaint(NET.replace('"net"', f'"{name}"')) == message
    assert complaint(NET + f'name = "{name}"\n').partition("): ")[2] == message


@pytest.mark.parametrize("name", ["fxp", "string", "Math", "CON"])
def test_the_network_is_not_called_like_another_header(name: str) -> None:
    expected = f"name = '{name}'; the file {name}.h is taken; choose another"
    assert complaint(NET.replace('"net"', f'"{name}"')) == expected


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_layer_is_not_called_like_a_variable_of_the_generated_c(name: str) -> None:
    expected = (
        f"layer 1 ({name}): name = '{name}'; the C code uses that name itself; choose another"
    )
    assert complaint(NET + f'name = "{name}"\n') == expected


@pytest.mark.parametrize("name", ["Net2", "a", "work", "label", "a" * 31])
def test_other_names_are_fine_for_a_network(name: str) -> None:
    assert parse_spec(NET.replace('"net"', f'"{name}"'), "net.toml").name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + LAYER + 'name = "fc"\n' + RELU + LAYER + 'name = "fc"\n',
            "layer 3 (fc): layer 1 is called 'fc' too; give one of them another name",
        ),
        (
            HEAD + LAYER + 'name = "dense2"\n' + LAYER,
            "layer 2 (dense): layer 1 is called 'dense2' too; give one of them another name",
        ),
    ],
)
def test_two_layers_do_not_share_a_name(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize("sizes", ["[]", "[0]", "[-4]", "[8, 0, 1]"])
def test_sizes_are_at_least_one(sizes: str) -> None:
    expected = f"input = {sizes}; it must be sizes of at least 1, such as input = [64]"
    assert complaint(NET.replace("[4]", sizes)) == expected


@pytest.mark.parametrize("key", ["input_max", "target_max"])
@pytest.mark.parametrize("value", ["0.0", "-1.0", "nan", "inf"])
def test_what_divides_is_positive_and_finite(key: str, value: str) -> None:
    expected = f"{key} = {value}; it must be positive and finite"
    assert complaint(f"{key} = {value}\n{NET}") == expected


def test_a_label_is_not_divided() -> None:
    text = "target_max = 8.0\n" + NET.replace("squared_error", "softmax_cross_entropy")
    assert complaint(text) == (
        "target_max = 8.0; the target of softmax_cross_entropy is a label, which nothing divides; "
        "remove target_max"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rate = nan", f"learning_rate = nan; {RATE}"),
        ("learning_rate = inf", f"learning_rate = inf; {RATE}"),
        ("learning_rate = -0.1", f"learning_rate = -0.1; {RATE}"),
        ("learning_rate = 255.5", f"learning_rate = 255.5; {RATE}"),
        ("learning_rate = 5.9e-8", f"learning_rate = 5.9e-08; {RATE}"),
        ("momentum = 1", "momentum = 1.0; it must be at least 0 and below 1"),
        ("momentum = -0.5", "momentum = -0.5; it must be at least 0 and below 1"),
        ("momentum = nan", "momentum = nan; it must be at least 0 and below 1"),
        ("batch = 0", "batch = 0; it must be from 1 to 256"),
        ("batch = 257", "batch = 257; it must be from 1 to 256"),
    ],
)
def test_training_stays_within_its_limits(line: str, message: str) -> None:
    assert complaint(training(line)) == f"[training]: {message}"


def test_an_op_explains_its_own_bad_value() -> None:
    text = NET + '[[layer]]\nkind = "leaky_relu"\nslope = 2.0\n'
    expected = "layer 2 (leaky_relu): slope = 2.0: it must be at least 0 and below 1"
    assert complaint(text) == expected


@pytest.mark.parametrize("format", ["", "3.12", "Q3,12", "Q0.15", "Q-1.8", "UQ8.8"])
def test_a_format_is_written_as_arm_does(format: str) -> None:
    assert complaint(NET + f'format = "{format}"\n') == (
        f"layer 1 (dense): format = '{format}'; it must be Qm.n with m integer bits, the sign "
        "among them, and n fraction bits, such as format = 'Q3.12'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            in_mode("int16", LAYER, 'format = "Q8.12"\n', LAYER),
            "format Q8.12 needs 20 bits, int16 has 16; choose Qm.n with m + n <= 16",
        ),
        (
            in_mode("int8", LAYER, 'format = "Q3.12"\n', LAYER),
            "format Q3.12 needs 15 bits, int8 has 8; choose Qm.n with m + n <= 8",
        ),
        (
            in_mode("int8_compact", LAYER, 'format = "Q1.8"\n', RELU, LAYER),
            "format Q1.8 needs 9 bits, int8_compact has 8; choose Qm.n with m + n <= 8",
        ),
        (
            in_mode("int8", LAYER, 'format = "Q1.16"\n'),
            "format Q1.16 needs 17 bits, the last layer has 16; choose Qm.n with m + n <= 16",
        ),
    ],
)
def test_a_format_fits_what_the_mode_stores(text: str, message: str) -> None:
    assert complaint(text) == f"layer 1 (dense): {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NET + SIGMOID + 'format = "Q1.15"\n',
            "layer 2 (sigmoid): the range of sigmoid fixes the format; remove format",
        ),
        (
            NET.replace("dense", "gru") + 'format = "Q1.15"\n' + RELU,
            "layer 1 (gru): the range of gru fixes the format; remove format",
        ),
        (
            NET + 'format = "Q3.12"\n' + SIGMOID,
            "layer 1 (dense): the range of layer 2 (sigmoid) fixes the format; remove format",
        ),
        (
            NET + 'format = "Q3.12"\n' + RELU + 'format = "Q2.13"\n',
            "layer 1 (dense): layer 2 (relu) sets the format of the same values; "
            "remove one of them",
        ),
        (
            NET + 'format = "Q3.12"\n' + NORM + RELU + 'format = "Q2.13"\n',
            "layer 1 (dense): layer 3 (relu) sets the format of the same values; "
            "remove one of them",
        ),
    ],
)
def test_a_format_is_given_once(text: str, message: str) -> None:
    assert complaint(text) == message


def test_an_elementwise_layer_cannot_be_frozen() -> None:
    expected = "layer 2 (relu): relu has no parameters; remove frozen"
    assert complaint(NET + RELU + "frozen = true\n") == expected


def test_a_spec_built_in_python_is_checked_too() -> None:
    layers = (Layer(Dense(2), "fc"), Layer(Sigmoid(), "fc"))
    with pytest.raises(UserError) as caught:
        Spec("net", (4,), layers, SoftmaxCrossEntropy())
    assert str(caught.value) == (
        "<spec>: layer 2 (fc): layer 1 is called 'fc' too; give one of them another name"
    )


def test_a_frozen_relu_built_in_python_is_refused() -> None:
    layers = (Layer(Dense(2), "fc"), Layer(Relu(), "hidden", frozen=True))
    with pytest.raises(UserError) as caught:
        Spec("net", (4,), layers, SquaredError())
    expected = "<spec>: layer 2 (hidden): relu has no parameters; remove frozen"
    assert str(caught.value) == expected
