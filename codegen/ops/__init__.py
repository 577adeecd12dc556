"""Every op under the name that the network file gives it."""

from codegen.ops.absolute_error import AbsoluteError
from codegen.ops.adam import Adam
from codegen.ops.add import Add
from codegen.ops.average_pool import AveragePool
from codegen.ops.base import ElementwiseOp, FoldOp, LayerOp, LossOp, OptimizerOp, ScheduleOp, ViewOp
from codegen.ops.batch_norm import BatchNorm
from codegen.ops.binary_cross_entropy import BinaryCrossEntropy
from codegen.ops.concatenate import Concatenate
from codegen.ops.constant import Constant
from codegen.ops.conv1d import Conv1d
from codegen.ops.conv2d import Conv2d
from codegen.ops.cosine import Cosine
from codegen.ops.dense import Dense
from codegen.ops.depthwise_conv2d import DepthwiseConv2d
from codegen.ops.dropout import Dropout
from codegen.ops.elu import Elu
from codegen.ops.flatten import Flatten
from codegen.ops.global_average_pool import GlobalAveragePool
from codegen.ops.gru import Gru
from codegen.ops.hard_sigmoid import HardSigmoid
from codegen.ops.hard_swish import HardSwish
from codegen.ops.hinge import Hinge
from codegen.ops.huber import Huber
from codegen.ops.leaky_relu import LeakyRelu
from codegen.ops.max_pool import MaxPool
from codegen.ops.momentum import Momentum
from codegen.ops.multiply import Multiply
from codegen.ops.nesterov import Nesterov
from codegen.ops.pad import Pad
from codegen.ops.prelu import Prelu
from codegen.ops.relu import Relu
from codegen.ops.relu6 import Relu6
from codegen.ops.reshape import Reshape
from codegen.ops.rmsprop import Rmsprop
from codegen.ops.scale_shift import ScaleShift
from codegen.ops.sgd import Sgd
from codegen.ops.sigmoid import Sigmoid
from codegen.ops.simple_rnn import SimpleRnn
from codegen.ops.softmax import Softmax
from codegen.ops.softmax_cross_entropy import SoftmaxCrossEntropy
from codegen.ops.softsign import Softsign
from codegen.ops.squared_error import SquaredError
from codegen.ops.step import Step
from codegen.ops.tanh import Tanh
from codegen.ops.warm_up import WarmUp

LayerKind = type[LayerOp] | type[ElementwiseOp] | type[FoldOp] | type[ViewOp]
LAYERS: dict[str, LayerKind] = {
    op.kind: op
    for op in (
        *(Dense, Conv1d, Conv2d, DepthwiseConv2d),
        *(LeakyRelu, Relu, Relu6, Sigmoid, Tanh),
        *(Elu, HardSigmoid, HardSwish, Prelu, Softsign),
        *(MaxPool, AveragePool, GlobalAveragePool),
        *(Add, Concatenate, Multiply, Flatten, Reshape, Pad),
        *(BatchNorm, ScaleShift),
        *(Gru, SimpleRnn),
        *(Dropout, Softmax),
    )
}
LOSSES: dict[str, type[LossOp]] = {
    op.kind: op
    for op in (
        *(SoftmaxCrossEntropy, SquaredError, BinaryCrossEntropy),
        *(Huber, AbsoluteError, Hinge),
    )
}
OPTIMIZERS: dict[str, type[OptimizerOp]] = {
    op.kind: op for op in (Sgd, Momentum, Nesterov, Rmsprop, Adam)
}
SCHEDULES: dict[str, type[ScheduleOp]] = {op.kind: op for op in (Constant, Cosine, Step, WarmUp)}
