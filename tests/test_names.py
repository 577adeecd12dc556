"""Whatever a layer is called: the C compiles, or one line says which name to change."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from codegen.emit import RUNTIME_HEADERS
from codegen.errors import UserError
from codegen.pipeline import generate
from codegen.spec import MAX_NAME, Spec, parse_spec
from host_sim.compiler import STRICT, Compiler

# A gradient that is summed, slots, a frozen parameter, a table, a schedule, scratch words, norms.
NETWORK = """name = "net"
input = [3]
loss = "softmax_cross_entropy"
[training]
OPTIMIZER
clip_norm = 0.5
weight_decay = 0.1
batch = 2
schedule = { kind = "cosine", samples = 100 }
[[layer]]
kind = "dense"
units = 3
name = "first"
[[layer]]
kind = "tanh"
name = "NAME"
[[layer]]
kind = "dense"
units = 3
frozen = true
name = "kept"
[[layer]]
kind = "dense"
units = 2
name = "last"
"""


TANH = """[[layer]]
kind = "tanh"
name = "NAME"
"""
AT_ONCE = 60  # names that a compiler sees at once


def network(names: list[str], optimizer: str) -> Spec:
    layers = "".join(TANH.replace("NAME", name) for name in names)
    return parse_spec(NETWORK.replace(TANH, layers).replace("OPTIMIZER", optimizer), "net.toml")


def identifiers(optimizer: str) -> list[str]:
    """Every name in the C of the network, every step's, and what the runtime's headers declare, not
    what is within their functions; not those of its other layers, and none too long for a layer.
    """
    files = generate(network(["second"], optimizer))
    for name in RUNTIME_HEADERS:
        files[name] = "\n".join(re.findall(r"^[^\s/].*$", files[name], re.MULTILINE))
    text = re.sub(r"/\*.*?\*/", " ", "\n".join(files.values()), flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r'"[^"\n]*"', " ", text)))
    words |= {word.removeprefix("step_") for word in words}
    return sorted(word for word in words - {"first", "kept", "last"} if len(word) <= MAX_NAME)


def names() -> dict[str, str]:
    """All identifiers, and an optimizer with which the C has them."""
    first, second = "momentum = 0.5", 'optimizer = "adam"'
    return dict.fromkeys(identifiers(second), second) | dict.fromkeys(identifiers(first), first)


def test_a_layer_may_be_called_like_nothing_or_anything_in_the_c(
    any_compiler: Compiler, tmp_path: Path
) -> None:
    checking = replace(any_compiler, flags=("-std=c99", "-fsyntax-only", *STRICT))
    refused: dict[str, str] = {}
    taken: dict[str, list[str]] = {}
    for name, optimizer in names().items():
        try:
            generate(network([name], optimizer))
            taken.setdefault(optimizer, []).append(name)
        except UserError as error:
            refused[name] = str(error)
    for optimizer, known in taken.items():
        groups = [known[i :: len(known) // AT_ONCE + 1] for i in range(len(known) // AT_ONCE + 1)]
        while groups:
            group = groups.pop()
            try:
                files = generate(network(group, optimizer))
            except UserError:  # two of them do not go together
                groups += [[name] for name in group]
                continue
            for file, text in files.items():
                (tmp_path / file).write_text(text)
            checking.run("net.c", "net_init.c", cwd=tmp_path)
    for name, message in refused.items():
        assert re.match(rf"net\.toml: layer 2 \(\w+\): name = '{name}'; ", message)
    assert {"int16_t", "step_loss", "update_last_w", "net_kept_w", "FXP_H"} <= {*refused}
    assert not {"best", "peak"} & {*refused}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            ("fc", "fc_w"),
            "net.toml: layer 2 (fc_w): name = 'fc_w'; the C code would have two things called "
            "'fc_w'; choose another",
        ),
        (
            ("fc", "update_fc_w"),
            "net.toml: layer 2 (update_fc_w): name = 'update_fc_w'; the C code would have two "
            "things called 'step_update_fc_w'; choose another",
        ),
        (
            ("step", "scale"),
            "net.toml: layer 2 (scale): name = 'scale'; the C code would have two things called "
            "'step_scale'; choose another",
        ),
        (
            ("d", "b"),
            "net.toml: layer 2 (b): name = 'b'; the C code would have two things called 'd_b'; "
            "choose another",
        ),
        (
            ("FC", "last"),
            "net.toml: layer 1 (FC): name = 'FC'; C has macros and types that look so; choose "
            "another",
        ),
        (
            ("fxp_fold", "last"),
            "net.toml: layer 1 (fxp_fold): name = 'fxp_fold'; C has macros and types that look "
            "so; choose another",
        ),
    ],
)
def test_two_things_of_one_name_are_refused(layers: tuple[str, str], message: str) -> None:
    text = 'name = "net"\ninput = [3]\nloss = "squared_error"\n'
    text += "".join(f'[[layer]]\nkind = "dense"\nunits = 2\nname = "{name}"\n' for name in layers)
    with pytest.raises(UserError) as refused:
        generate(parse_spec(text, "net.toml"))
    assert str(refused.value) == message
