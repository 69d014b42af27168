"""Networks with exits and planes as programs, in the NumPy reference and in the engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from onebit._engine import Engine
from onebit.images import ImageTask
from onebit.models import conv_classifier
from onebit.nn import Exit, use_planes
from onebit.ops.exit import certainty
from onebit.packing.pack import to_packed_model
from onebit.program import Program, Step
from onebit.runtime import reference
from onebit.schemes import Nested

TASK = ImageTask(("a", "b", "c", "d"), (8, 8), 1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = conv_classifier(
        num_classes=4, widths=(8, 16, 16), in_channels=1, exits=(1, 2), scheme=Nested(2), logit_scale=3
    )
    for planes in (1, 2):
        use_planes(made, planes)
        for _ in range(40):  # for the running statistics
            made.train()((torch.rand(32, 1, 8, 8) - TASK.mean[0]) / TASK.std[0])
    return made.eval()


def packed_in_use(model):
    """The program with the planes that the model has in use."""
    found = to_packed_model(model, TASK)
    return {m.planes: m for m in (*found.smaller, found)}[exits_of(model)[0].in_use]


def exits_of(model):
    return [m for m in model.modules() if isinstance(m, Exit)]


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_engine_and_reference_end_at_the_same_exits(model, planes, precision):
    use_planes(model, planes)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    usual = 1.0
    for exit, temperature in zip(exits_of(model), (1.5, 0.5), strict=True):
        exit.adjust(temperature)
        packed = packed_in_use(model)
        first = next(step.output for step in packed.program.steps if step.op == "exit")
        logits = reference.run(replace(packed.program, output=first), packed.tensors, pixels, precision)
        usual = float(np.median(certainty(logits)))
        exit.adjust(temperature, usual)
    packed = packed_in_use(model)
    assert sum(step.op == "exit" for step in packed.program.steps) == 2
    engine = Engine(packed.program.to_json(), packed.tensors, precision, 1)
    for threshold in (None, usual):
        expected, places = reference.run_to_exits(packed.program, packed.tensors, pixels, precision, threshold)
        found, passed = engine.run_to_exits(pixels, threshold)
        assert np.array_equal(passed, places)
        assert np.allclose(found, expected, atol=1e-4)
        assert len(set(places)) > 1
    assert np.array_equal(engine.run(pixels), engine.run_to_exits(pixels)[0])


def test_what_an_exit_gives_is_what_its_head_gives_in_pytorch(model):
    for exit in exits_of(model):
        exit.adjust(2.0, 1e-3)
    packed = packed_in_use(model)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 1), np.uint8)
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(255))
    x = (x - torch.tensor(TASK.mean).view(-1, 1, 1)) / torch.tensor(TASK.std).view(-1, 1, 1)
    with torch.no_grad():
        early, last = model.heads[0](model.blocks[0](x)) * 3 / 2, model(x)
    engine = Engine(packed.program.to_json(), packed.tensors, "float32", 1)
    assert np.allclose(engine.run(pixels), early, atol=1e-3)
    found, passed = engine.run_to_exits(pixels, 1.0)
    assert np.allclose(found, last, atol=1e-3)
    assert passed.tolist() == [2] * 8


def test_numbers_that_are_none_do_not_end_a_program():
    steps = (Step("exit", ("x",), "e", {"threshold": 1e-6}), Step("relu", ("x",), "y"))
    program = Program("x", (3,), steps, "y")
    inf, nan = np.inf, np.nan
    x = np.array([[1, nan, 2], [nan, 1, 2], [-inf, -inf, -inf], [inf, 0, 1], [-inf, 0, 1], [-1, -2, -3]], np.float32)
    for passed in (
        reference.run_to_exits(program, {}, x)[1],
        Engine(program.to_json(), {}, "int8", 1).run_to_exits(x)[1],
    ):
        assert passed.tolist() == [1, 1, 1, 1, 0, 0]
