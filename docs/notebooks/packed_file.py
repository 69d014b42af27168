# %% [markdown]
# # Inside a packed file
#
# A `.onebit` file is a safetensors file: a program, tensors of bits, and a few floats. This notebook opens one
# with NumPy alone. Then it computes the engine's answer by hand, down to the last bit.
#
# [The program of a packed model](../program.md) is the specification.

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

import onebit

# %% [markdown]
# ## A file
#
# A perceptron with one hidden layer of 64 units, every parameter a bit.

# %%
run = onebit.train(
    "digits",
    "runs/mlp",
    model="mlp",
    scheme="Bipolar",
    hybrid=False,
    hidden=[64],
    image_size=[8, 8],
    epochs=8,
    progress=False,
)
print(run)
report = onebit.pack(run.model, "mlp.onebit", run.task, run.training)
print(f"{report.file_bytes:,} bytes")

# %% [markdown]
# ## What it holds
#
# The metadata hold the program and the task as JSON. Each step of the program names its op, its inputs, its
# output and its tensors.

# %%
with safe_open("mlp.onebit", framework="np") as file:
    metadata = file.metadata()
tensors = load_file("mlp.onebit")
program, task = json.loads(metadata["program"]), json.loads(metadata["task"])
print(sorted(metadata))
print(task["kind"], task["labels"], task["image_size"])
for step in program["steps"]:
    print(f"{step['op']:12} {', '.join(step['inputs']):6} -> {step['output']:3} {step['attributes']}")

# %%
for name, tensor in sorted(tensors.items()):
    print(f"{name:24} {tensor.dtype!s:8} {tensor.shape}")

# %% [markdown]
# ## The bits
#
# A row of bits belongs to one output. Eight of them share a byte, the first in the lowest place. With
# `"values": "pm1"` a 1 reads as +1 and a 0 as -1. The hidden layer has one weight for each pixel, so its rows
# can be seen as pictures.

# %%
layers = [step for step in program["steps"] if step["op"] == "bit_linear"]


def signs(step: dict, part: str, columns: int) -> np.ndarray:
    rows = tensors[step["tensors"][part]]
    bits = np.unpackbits(rows, axis=1, bitorder="little")[:, :columns]
    return 2 * bits.astype(np.int32) - 1


weights = [signs(step, "weight", step["attributes"]["in_features"]) for step in layers]
biases = [signs(step, "bias", step["attributes"]["out_features"])[0] for step in layers]
print([w.shape for w in weights], [b.shape for b in biases])

# %%
figure, axes = plt.subplots(4, 16, figsize=(9, 2.5))
for unit, axis in enumerate(axes.flat):
    axis.imshow(weights[0][unit].reshape(8, 8), cmap="gray")
    axis.set_axis_off()
plt.show()

# %% [markdown]
# ## The answer by hand
#
# In the numerics `int8` the inputs of a binary layer are rounded to integers of 8 bits, with one scale for each
# row. The sum over them is exact. All else is float32, and each written operation is rounded once.

# %%
one = np.float32(1)


def quantize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (rows, features)
    signed = x.min(1, keepdims=True) < 0
    scale = np.where(
        signed, np.abs(x).max(1, keepdims=True) / np.float32(127), x.max(1, keepdims=True) / np.float32(255)
    )
    levels = np.rint(x * (one / scale))
    return np.clip(levels, np.where(signed, -127, 0), np.where(signed, 127, 255)).astype(np.int32), scale


def compute(pixels: np.ndarray) -> np.ndarray:  # (rows, 8, 8, 1) uint8
    values = {program["input"]["name"]: pixels.astype(np.float32) / np.float32(255)}
    layer = 0
    for step in program["steps"]:
        (x,) = (values[name] for name in step["inputs"])
        own = {part: tensors[name] for part, name in step["tensors"].items()}
        if step["op"] == "scale_shift":
            y = x * own["scale"] + own["shift"]
        elif step["op"] == "flatten":
            y = x.reshape(len(x), -1)
        elif step["op"] == "relu":
            y = np.maximum(x, 0)
        elif step["op"] == "scale":
            y = x * np.float32(step["attributes"]["factor"])
        else:  # bit_linear
            levels, scale = quantize(x)
            sums = levels @ weights[layer].T  # exact integers
            y = scale * sums.astype(np.float32) + biases[layer].astype(np.float32)
            layer += 1
        values[step["output"]] = y
    return values[program["output"]]


# %% [markdown]
# The engine, with every instruction set of its own, gives the same logits. Not nearly the same: the same bits.

# %%
images = onebit.data.load_images("digits", size=(8, 8), channels=1).test
by_hand = compute(images.pixels)
session = onebit.load("mlp.onebit", threads=1)
engine = session(images.pixels)
print(session.isa, by_hand.shape, by_hand.dtype)
print(by_hand[0])
print(engine[0])
assert np.array_equal(by_hand, engine)

# %% [markdown]
# So a sum of the hidden layer is 64 additions and subtractions of small integers. For the first image and the
# first unit:

# %%
levels, scale = quantize((images.pixels[:1].astype(np.float32) / 255 * 2 - 1).reshape(1, -1))
terms = levels[0] * weights[0][0]
print(terms.reshape(8, 8))
print("sum", terms.sum())

# %% [markdown]
# ## Read on
#
# - `onebit info FILE` prints what a file holds, `onebit info FILE --engine` how the engine runs it.
# - [How the engine computes](../engine.md): the same sums, 512 products an instruction.
# - [From C](../c.md): reading such files without Python.
