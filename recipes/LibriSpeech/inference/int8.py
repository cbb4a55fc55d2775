"""Linear layers of an ONNX model with eight bits a weight, such that no row of a batch knows of another.

A weight matrix is rounded to whole numbers of -127 .. 127, with a scale for each of its outputs. The activations are rounded in
the same way, with a scale for each frame, which is the largest of its absolute values. `quantize_dynamic` of onnxruntime has one
scale for all that goes into a layer: there a frame's result depends on the other streams, and on how the audio was cut.
"""

from typing import Any

import numpy as np

from recipes.command_line import UserError
from recipes.LibriSpeech.inference.step import EXACT


def quantised(content: bytes) -> bytes:
    """Replace each product of activations and a constant matrix, but those of the filterbank and over the waveform.

    Arguments
    ---------
    content : bytes
        A model of `step.step_proto`, serialised.

    Returns
    -------
    bytes
        A model with the same inputs and outputs.

    Raises
    ------
    UserError
        If onnx is not installed.
    """
    try:
        from onnx import ModelProto, helper, numpy_helper
    except ImportError as error:
        raise UserError(f"--int8 needs onnx ({error}): pip install -e '.[engines]'") from error
    model = ModelProto.FromString(content)
    graph, nodes, rounded = model.graph, list[Any](), set[str]()
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = {"axis": np.array([-1]), "one": np.float32(1 / 127), "zero": np.uint8(128), "tiny": np.float32(1e-30)}
    new = [numpy_helper.from_array(np.asarray(value), f"int8.{name}") for name, value in constants.items()]
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or weight.name.startswith(EXACT):
            nodes.append(node)
            continue
        x, w, y = node.input[0], weight.name, node.output[0]
        largest, whole = f"{x}.largest", f"{x}.int8"
        if x not in rounded:  # other layers read the same frames
            rounded.add(x)
            nodes += [
                helper.make_node("Abs", [x], [f"{x}.abs"]),
                helper.make_node("ReduceMax", [f"{x}.abs", "int8.axis"], [f"{x}.max"], keepdims=1),
                helper.make_node("Max", [f"{x}.max", "int8.tiny"], [largest]),
                helper.make_node("Div", [x, largest], [f"{x}.scaled"]),  # -1 .. 1
                helper.make_node("QuantizeLinear", [f"{x}.scaled", "int8.one", "int8.zero"], [whole]),
            ]
        matrix = numpy_helper.to_array(weight)  # (inputs, outputs)
        scale = np.maximum(np.abs(matrix).max(axis=0), 1e-30) / np.float32(127)
        new += [
            numpy_helper.from_array(np.round(matrix / scale).astype(np.int8), f"{w}.int8"),
            numpy_helper.from_array(scale, f"{w}.scale"),
        ]
        inputs = [whole, f"{w}.int8", "int8.one", f"{w}.scale", "int8.zero"]
        nodes += [
            helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}.scaled"], domain="com.microsoft"),
            helper.make_node("Mul", [f"{y}.scaled", largest], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in (*graph.initializer, *new) if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()
