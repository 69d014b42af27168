"""The steps of a program, one after the other, as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from onebit.exports.onnx import elementwise, products, sequences
from onebit.exports.onnx.graph import Graph, Layer, Value
from onebit.exports.refusals import refuse
from onebit.fileformat import PackedModel
from onebit.program import Step

WRITERS = {**elementwise.WRITERS, **products.WRITERS, **sequences.WRITERS}


def graph_of(model: PackedModel, source: Path, int2: bool = False) -> onnx.GraphProto:
    """The program as a graph.

    Raises:
        OnebitError: the program has ops that are not written; all are named.
    """
    program = model.program
    refuse(source, "onnx", ((step.op, "") for step in program.steps if step.op not in WRITERS))
    g = Graph(int2)
    if not (program.tokens or program.takes_one_array):
        refuse(source, "onnx", [("the program", "several inputs or outputs, or integers")])
    masked = (
        s
        for s in program.steps
        if s.op == "full_attention" and (len(s.inputs) > 3 or s.tensors or s.attributes.get("causal"))
    )
    refuse(source, "onnx", ((step.op, "a mask, a bias, or causal") for step in masked))
    values = {program.input_name: Value(program.input_shape, "input")}
    faults = []
    for step in program.steps:
        try:
            values[step.output] = WRITERS[step.op](g, layer_of(model, step, values))
        except products.Inexact as fault:
            faults.append((step.op, str(fault)))
            values[step.output] = Value(model.shapes[step.output], "")
    refuse(source, "onnx", faults)
    g.node("Identity", [g.last(values[program.output])], ["output"])
    if program.tokens:
        entry = helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "time"])
        shape = ["batch", "time", *model.shapes[program.output][1:]]
    else:
        entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *program.input_shape])
        shape = ["batch", *model.shapes[program.output]]
    leaving = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
    used = set(_read(g.nodes))
    constants = [tensor for name, tensor in g.constants.items() if name in used]
    return helper.make_graph(g.nodes, "onebit", [entry], [leaving], constants)


def layer_of(model: PackedModel, step: Step, values: dict[str, Value]) -> Layer:
    """A step with its tensors and its inputs."""
    return Layer(
        step,
        {role: model.tensors[name] for role, name in step.tensors.items()},
        [values[name] for name in step.inputs],
        model.shapes[step.output],
        model.program.tokens,
    )


def _read(nodes: Iterable[onnx.NodeProto]) -> Iterable[str]:
    """The names that nodes read, also inside loops."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _read(attribute.g.node)
