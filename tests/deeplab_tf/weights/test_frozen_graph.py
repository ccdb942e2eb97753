"""Frozen graphs: their constants are read, and nothing in them runs."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import weight_files

from deeplab_tf.weights import read_arrays

ARRAYS = {"logits/semantic/biases": np.arange(3, dtype=np.float32)}


@pytest.mark.parametrize("op", ["WriteFile", "ReadFile", "PyFunc", "RestoreV2", "Custom>Op"])
@pytest.mark.parametrize("in_function", [False, True])
def test_an_operation_that_no_network_needs_is_refused_by_its_name(tmp_path, op, in_function):
    graph = tf.compat.v1.GraphDef()
    path = weight_files.write_frozen_graph(tmp_path / "a.pb", ARRAYS)
    graph.ParseFromString(pathlib.Path(path).read_bytes())
    nodes = graph.library.function.add().node_def if in_function else graph.node
    nodes.add(name="inner/node", op=op)
    pathlib.Path(path).write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match=f"node inner/node has the operation {op}, which no segm"):
        read_arrays(path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_constants_are_read_in_both_ways_that_tensorflow_stores_them(tmp_path, dtype):
    values = tf.cast(tf.cos(tf.range(12.0)), dtype)
    content = tf.make_tensor_proto(values.numpy().reshape(2, 6))
    listed = type(content)(dtype=content.dtype, tensor_shape=content.tensor_shape)
    if dtype in ("float32", "float64"):
        field = {"float32": listed.float_val, "float64": listed.double_val}[dtype]
        field.extend(values.numpy().tolist())
    else:
        listed.half_val.extend(values.numpy().view(np.uint16).tolist())
    assert content.tensor_content and not listed.tensor_content
    for proto in (listed, content):
        graph = tf.compat.v1.GraphDef()
        node = graph.node.add(name="logits/semantic/weights", op="Const")
        node.attr["value"].tensor.CopyFrom(proto)
        (tmp_path / "a.pb").write_bytes(graph.SerializeToString())
        found = read_arrays(str(tmp_path / "a.pb"))[1]["logits/semantic/weights"]
        np.testing.assert_array_equal(found, tf.make_ndarray(proto).astype(found.dtype))
