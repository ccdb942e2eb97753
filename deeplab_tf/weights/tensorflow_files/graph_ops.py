"""TensorFlow's operations that compute and do nothing else.

None of them touches files, processes, the network, Python or random states. DeepLab's frozen graphs
and the exports of this package have no others, but for those that restore variables.
"""

from __future__ import annotations

# ours: those of the networks, of multi-scale inference, of pictures that are resized and cropped
# inside a graph, and of their gradients, which SavedModels have too.
PURE_OPS = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin Assert AvgPool AvgPoolGrad BatchMatMul BatchMatMulV2
    BatchMatMulV3 BatchToSpace BatchToSpaceND BiasAdd BiasAddGrad BroadcastArgs
    BroadcastGradientArgs BroadcastTo Cast Ceil CheckNumerics ClipByValue Concat ConcatOffset
    ConcatV2 Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput CropAndResize Cumsum
    DecodeImage DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
    DepthwiseConv2dNativeBackpropInput Dequantize Div DivNoNan Einsum Elu EnsureShape Enter Equal
    Erf Exit Exp ExpandDims FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm
    FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater
    GreaterEqual Identity IdentityN If InvertPermutation IsFinite IsInf IsNan L2Loss LeakyRelu Less
    LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond MatMul Max
    MaxPool MaxPoolGrad MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad Mul MulNoNan Neg
    NextIteration NoOp NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder
    PlaceholderWithDefault Pow PreventGradient Prod QuantizeV2 Range Rank RealDiv Reciprocal Relu
    Relu6 Relu6Grad ReluGrad Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeBilinearGrad
    ResizeNearestNeighbor ResizeNearestNeighborGrad Reverse ReverseV2 Rint Round Rsqrt RsqrtGrad
    ScaleAndTranslate ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid SigmoidGrad Sign Size
    Slice Softmax Softplus SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StopGradient
    StridedSlice StridedSliceGrad Sub Sum Switch Tanh Tile TopKV2 Transpose TruncateDiv TruncateMod
    Unpack Where While Xdivy ZerosLike
    """.split()
)

# What TensorFlow's exporter adds for variables. They hold memory, and touch nothing else.
VARIABLE_OPS = frozenset(
    "AssignVariableOp DisableCopyOnRead ReadVariableOp VarHandleOp VarIsInitializedOp".split()
)

# What it adds for the functions that save and restore. They read and write files, by names that
# the graph may hold or compute.
SAVER_OPS = frozenset(
    "MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin".split()
)
