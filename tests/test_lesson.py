"""The textbook lesson, worked by hand: o = f(w o + b), C = (o - t)^2, the chain rule backwards."""

import math

import numpy as np
import pytest
from given import named

from host_sim.device import Device

# Scores and activations are rounded to 2**-15, after a table that is off by less than 8e-5; an
# error keeps 15 bits. A gradient is a product of at most five such values below 2.
TOLERANCE = 5 * 2 * (8e-5 + 2.0**-15)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def slope(z: float) -> float:
    return sigmoid(z) * (1 - sigmoid(z))


@pytest.mark.parametrize("trained", [0, 500])
@pytest.mark.parametrize(("x", "t"), [(0.5, 0.25), (-0.75, 0.9), (0.999, 0.0), (0.0, 0.5)])
def test_gradients_follow_the_chain_rule(x: float, t: float, trained: int) -> None:
    device = Device(named("lesson"), seed=3)
    for _ in range(trained):
        device.train([x], [t])
    loss = device.gradient([x], [t])
    w1, b1 = device.read("dense1_w").item(), device.read("dense1_b").item()
    w2, b2 = device.read("dense2_w").item(), device.read("dense2_b").item()

    z1 = w1 * x + b1
    o1 = sigmoid(z1)
    z2 = w2 * o1 + b2
    o2 = sigmoid(z2)
    by_output = 2 * (o2 - t)
    by_z2 = slope(z2) * by_output
    by_o1 = w2 * by_z2
    by_z1 = slope(z1) * by_o1

    assert loss == pytest.approx((o2 - t) ** 2, abs=TOLERANCE)
    assert device.read("d_dense2_w").item() == pytest.approx(o1 * by_z2, abs=TOLERANCE)
    assert device.read("d_dense2_b").item() == pytest.approx(by_z2, abs=TOLERANCE)
    assert device.read("d_dense1_w").item() == pytest.approx(x * by_z1, abs=TOLERANCE)
    assert device.read("d_dense1_b").item() == pytest.approx(by_z1, abs=TOLERANCE)


def test_with_several_neurons_the_error_sums_over_the_next_layer() -> None:
    device = Device(named("lesson_wide"), seed=1)
    x, t = [0.5, -0.25, 0.75], [0.9, 0.1]
    device.gradient(x, t)
    w1, b1 = device.read("dense1_w"), device.read("dense1_b")
    w2, b2 = device.read("dense2_w"), device.read("dense2_b")

    z1 = [sum(w1[j][k] * x[k] for k in range(3)) + b1[j] for j in range(4)]
    o1 = [sigmoid(z) for z in z1]
    z2 = [sum(w2[i][j] * o1[j] for j in range(4)) + b2[i] for i in range(2)]
    by_z2 = [slope(z2[i]) * 2 * (sigmoid(z2[i]) - t[i]) for i in range(2)]
    for j in range(4):
        by_o1 = sum(w2[i][j] * by_z2[i] for i in range(2))
        for k in range(3):
            want = x[k] * slope(z1[j]) * by_o1
            assert device.read("d_dense1_w")[j][k] == pytest.approx(want, abs=TOLERANCE)


def test_a_training_step_goes_down_the_gradient() -> None:
    spec = named("lesson")
    device = Device(spec, seed=3)
    before = device.state()
    device.gradient([0.5], [0.0])
    change = -spec.learning_rate * device.read("d_dense2_w")
    device.train([0.5], [0.0])
    got = device.read("dense2_w") - before.q("dense2_w").value
    unit = 2.0 ** -before.f["dense2_w"]
    # 1.5 units (fold and dither), and the rate has 8 significant bits.
    assert np.all(np.abs(got - change) <= 1.5 * unit + np.abs(change) * 2.0**-8)
