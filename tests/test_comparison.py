"""What others cost for the same work stands beside ours, and only there."""

import json
from typing import Any

from given import NETWORKS, named

from codegen.pipeline import make_plan
from codegen.report import multiplies
from host_sim.comparison import peers

KNOWN = ("xor_gate", "digits", "mnist", "w4", "w5")


def test_each_known_work_is_that_of_a_network_here() -> None:
    """W1 to W5 by their multiplications; another network has no peers."""
    works = [multiplies(make_plan(named(name)))["total"] for name in KNOWN]
    assert all(peers(work) for work in works)
    assert peers(works[1])[0].train == 282_522
    assert peers(multiplies(make_plan(named("deep")))["total"]) == []


def test_peers_stand_below_the_cores_they_ran_on(mcugrad: Any) -> None:
    networks = [str(NETWORKS / f"{name}.toml") for name in ("xor_gate", "deep")]
    arguments = ("bench", "--compare", *networks, "--core", "cortex-m0")
    status, out, err = mcugrad(*arguments, "--json")
    xor, deep = json.loads(out)["networks"]
    assert (status, err, xor["network"], xor["macs"]) == (0, "", "xor_gate", 30)
    assert [row["name"] for row in deep["rows"]] == ["mcugrad, int16"]
    assert [row["name"] for row in xor["rows"]] == [
        *("mcugrad, int16", "AIfES 2.2, float", "FANN, float")
    ]
    ours = xor["rows"][0]
    assert ours["train"] < xor["rows"][1]["train"]
    alone = json.loads(mcugrad("bench", networks[0], "--core", "cortex-m0", "--json")[1])
    assert ours["train"] == alone["cores"]["cortex-m0"]["train"]
    assert ours["stack_bytes"] == alone["cores"]["cortex-m0"]["stack_bound_bytes"]
    text = mcugrad(*arguments)[1]
    assert "`xor_gate`, 30 multiplications a step\n\n| | core | instructions a step |" in text
    assert "| AIfES 2.2, float | cortex-m0 | 37 448 | 1248.27 |  |  |  | 1 664 |" in text


def test_several_networks_go_with_compare_only(mcugrad: Any) -> None:
    networks = [str(NETWORKS / f"{name}.toml") for name in ("xor_gate", "deep")]
    status, _, err = mcugrad("bench", *networks)
    assert (status, err) == (
        2,
        "mcugrad bench: Several networks go with --compare only; see mcugrad bench --help\n",
    )
