"""The generated C of one network, running on this machine or on an emulated core."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen.board import Board
from codegen.emit import Options, emit, emit_harness, observed
from codegen.errors import UserError
from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, integers
from codegen.graph import PARAMETER_ROLES, Plan
from codegen.interpret import State
from codegen.layout import pack, struct_bytes, unpack, work_fields
from codegen.pipeline import Samples, make_plan, make_state, quantize_samples
from codegen.spec import Spec
from codegen.weights import whole_weights
from host_sim.compiler import Platform, find_compiler

CHUNK = 1 << 20  # bytes of samples that are handed to the C at once


class Build:
    """One program with the memory of one network: params and work."""

    def __init__(
        self, spec: Spec, plan: Plan, state: State, options: Options, platform: Platform | None
    ):
        self.plan = plan
        files = emit(spec, plan, state, options) | emit_harness(spec, plan, state, options)
        self.program = (platform or find_compiler()).load(files)
        self.params = np.zeros(self.program.call("harness_params_bytes"), np.uint8)
        self.work = np.zeros(self.program.call("harness_work_bytes"), np.uint8)
        self._input_type = np.int16 if plan.quantized.formats["x"].bits == 16 else np.int8

    def init(self) -> None:
        """As on a device that was just switched on: fresh parameters, scratch all zeros."""
        self.program.call("harness_init", self.params)
        self.work[:] = 0

    def run(self, samples: Samples, order: NDArray[np.uint32]) -> int:
        """train (or gradient) on the samples that `order` names; the sum of the losses."""
        loss = 0
        for part in self._chunks(order):
            x, target = self.inputs(samples.x[part]), np.array(samples.target[part], np.int16)
            arrays = (self.params, self.work, x, target)
            loss += self.program.call("harness_train", *arrays, len(part), bits=64)
        return loss

    def map(self, function: str, x: Ints, width: int, dtype: Any) -> NDArray[Any]:
        """predict or scores for every sample: (samples, width)."""
        results = [np.zeros((0, width), dtype)]
        for part in self._chunks(np.arange(len(x))):
            result = np.zeros((len(part), width), dtype)
            arrays = (self.params, self.work, self.inputs(x[part]))
            self.program.call(f"harness_{function}", *arrays, len(part), result)
            results.append(result)
        return np.concatenate(results)

    def inputs(self, x: Ints) -> NDArray[Any]:
        """Inputs as the C has them, one sample after the other."""
        return np.array(x.reshape(len(x), -1), self._input_type)

    def _chunks(self, order: NDArray[Any]) -> Iterator[NDArray[Any]]:
        size = max(1, CHUNK // (4 * self.plan.training.tensors["x"].size))
        for first in range(0, len(order), size):
            yield order[first : first + size]

    def words(self, first: int, count: int, dtype: str) -> NDArray[Any]:
        """Part of the work area, from byte `first`."""
        return self.work[first : first + count * np.dtype(dtype).itemsize].view(dtype)

    @property
    def end(self) -> int:
        """Where the extra fields of a special build begin in the work area."""
        return self.plan.arena + struct_bytes(work_fields(self.plan))


class Device:
    """A simulated device: the compiled C, its parameters, and what it last computed.

    Inputs and targets are raw numbers, in the units of input_max and target_max: x has shape
    (samples, *input), or (*input) for a single one. `seed` decides the starting weights unless
    `parameters` gives them; the first `samples`, where given, the starting formats. With
    `counters`, training also counts saturated samples; the arithmetic is the same. `compiler` is
    what makes a program of the C: a compiler of this machine, or an emulated core.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        seed: int = 0,
        board: Board | None = None,
        samples: Samples | None = None,
        parameters: Mapping[str, Floats] | None = None,
        compiler: Platform | None = None,
        counters: bool = True,
    ):
        self.spec, self._board, self._compiler, self._counters = spec, board, compiler, counters
        self.plan = make_plan(spec, board)
        self._start = make_state(spec, self.plan, samples, seed, parameters)
        options = Options(counters=counters)
        self._build = Build(spec, self.plan, self._start, options, compiler)
        self.init()

    def init(self) -> None:
        """Back to the starting parameters, as <net>_init does."""
        self._build.init()

    def predict(self, x: Any) -> Ints:
        """Index of the largest score for each sample."""
        return self.predict_of(self._samples(x).x)

    def predict_of(self, x: Ints) -> Ints:
        """The same for inputs that are integers already."""
        return integers(self._build.map("predict", x, 1, np.int32)[:, 0])

    def scores(self, x: Any) -> Floats:
        """Scores, (samples, outputs), as numbers in units of the target."""
        return self.scores_of(self._samples(x).x) * self.spec.target_max

    def scores_of(self, x: Ints) -> Floats:
        """Scores for inputs that are integers already, before target_max."""
        graph = self.plan.training.graph
        f = self.plan.quantized.score_fraction
        return Q(integers(self._build.map("scores", x, graph.outputs, np.int16)), f).value

    def train(self, x: Any, y: Any) -> float:
        """One training step per sample, in order. Returns the mean loss."""
        samples = self._samples(x, y)
        return self.train_samples(samples, range(len(samples))) / float(len(samples))

    def train_samples(self, samples: Samples, order: Iterable[int]) -> float:
        """The same for quantised samples in any order; returns the sum of the losses."""
        return self._build.run(samples, np.fromiter(order, np.uint32)) / float(1 << LOSS_FRACTION)

    def gradient(self, x: Any, y: Any) -> float:
        """Forward, loss and backward of one sample in the check build; nothing learns.

        Returns the loss; afterwards `read` knows every tensor, gradients (d_<parameter>) too.
        """
        return self.gradient_of(self._samples(x, y), 0) / float(1 << LOSS_FRACTION)

    def gradient_of(self, samples: Samples, index: int) -> int:
        """The same for a quantised sample; the loss as the C returns it."""
        build = self._gradient_build
        build.params[:] = np.frombuffer(pack(build.plan, self.state()), np.uint8)
        self._x = samples.x[index]
        return build.run(samples, np.array([index], np.uint32))

    def read(self, name: str) -> Floats:
        """Any tensor by name as numbers: a parameter as it is now, others after `gradient`."""
        return self.read_q(name).value

    def read_q(self, name: str) -> Q:
        """The same as integers with their fraction bits."""
        build = self._gradient_build
        plan = build.plan
        tensor = plan.training.tensors.get(name)
        unread = ("target", "seed")
        if tensor is None or tensor.role in unread:
            known = ", ".join(n for n, t in plan.training.tensors.items() if t.role not in unread)
            raise UserError(f"{self.spec.name}: no tensor {name!r}; there are {known}")
        if tensor.role in PARAMETER_ROLES:
            return self.state().q(name)
        if name == "x":
            return Q(integers(self._x), plan.quantized.formats["x"].f)
        bits = plan.quantized.formats[name].bits
        values = build.words(plan.offsets[name], tensor.size, f"<i{bits // 8}")
        fractions = build.words(build.end, len(observed(plan)), "<i2")
        f = int(fractions[observed(plan).index(name)])
        return Q(integers(values).reshape(tensor.shape), f)

    @cached_property
    def _gradient_build(self) -> Build:
        plan = make_plan(self.spec, self._board, gradient=True)
        return Build(self.spec, plan, self._start, Options(gradient=True), self._compiler)

    # parameters in and out

    @property
    def parameter_bytes(self) -> bytes:
        """<net>_params as it lies in memory."""
        return self._build.params.tobytes()

    @parameter_bytes.setter
    def parameter_bytes(self, memory: bytes) -> None:
        self._build.params[:] = np.frombuffer(memory, np.uint8)

    def state(self) -> State:
        """The parameters as integers, exponents and ranges."""
        state = deepcopy(self._start)
        unpack(self.plan, self.parameter_bytes, state)
        return state

    def crc32(self) -> str:
        """CRC-32 of the parameters' bytes, in hexadecimal."""
        return f"{zlib.crc32(self.parameter_bytes):08x}"

    def saturations(self) -> dict[str, int]:
        """Samples since init in which a tensor saturated, for tensors where that happened."""
        if not self._counters:
            raise UserError(f"{self.spec.name}: this device was built without counters")
        names = observed(self.plan)
        counts = self._build.words(self._build.end, len(names), "<u4")
        return {name: int(n) for name, n in zip(names, counts, strict=True) if n}

    def save(self, path: Path) -> None:
        """An .npz with every parameter as numbers, and the exact bytes."""
        tensors = self.plan.training.tensors.values()
        arrays: dict[str, Any] = dict(whole_weights(tensors, self.state().floats()))
        arrays["mcugrad_params"] = self._build.params
        arrays["mcugrad_network"] = np.array(self.spec.digest)
        with path.open("wb") as file:
            np.savez(file, **arrays)

    def load(self, path: Path) -> None:
        """The exact parameters that `save` wrote, for the same network."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                memory, digest = archive["mcugrad_params"], str(archive["mcugrad_network"])
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such file; check the path") from None
        except (OSError, KeyError, ValueError, TypeError):
            raise UserError(
                f"{path}: no parameters in it; mcugrad train --save FILE.npz writes them"
            ) from None
        if memory.size != self._build.params.size or digest != self.spec.digest:
            raise UserError(
                f"{path}: parameters of another network than {self.spec.source}; "
                "train and save this one"
            )
        self._build.params[:] = memory

    def _samples(self, x: Any, y: Any = None) -> Samples:
        values = np.asarray(x, np.float64).reshape(-1, *self.spec.input)
        target: NDArray[Any] = np.zeros(len(values)) if y is None else np.asarray(y).reshape(-1)
        if y is not None and not self.spec.loss.target_is_label:
            target = target / self.spec.target_max
            target = target.reshape(len(values), self.plan.training.graph.outputs)
        return quantize_samples(self.spec, values / self.spec.input_max, target)
