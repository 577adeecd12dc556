"""Every op under the name that the network file gives it."""

from codegen.ops.base import ElementwiseOp, LayerOp, LossOp, OptimizerOp
from codegen.ops.dense import Dense
from codegen.ops.leaky_relu import LeakyRelu
from codegen.ops.momentum import Momentum
from codegen.ops.relu import Relu
from codegen.ops.sgd import Sgd
from codegen.ops.sigmoid import Sigmoid
from codegen.ops.softmax_cross_entropy import SoftmaxCrossEntropy
from codegen.ops.squared_error import SquaredError
from codegen.ops.tanh import Tanh

LAYERS: dict[str, type[LayerOp] | type[ElementwiseOp]] = {
    op.kind: op for op in (Dense, LeakyRelu, Relu, Sigmoid, Tanh)
}
LOSSES: dict[str, type[LossOp]] = {op.kind: op for op in (SoftmaxCrossEntropy, SquaredError)}
OPTIMIZERS: dict[str, type[OptimizerOp]] = {op.kind: op for op in (Momentum, Sgd)}
