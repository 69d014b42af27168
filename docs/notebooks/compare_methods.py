# %% [markdown]
# # Compare methods
#
# The package has the method of the paper and ten others of the literature. This notebook trains the same small
# network with several of them, in two sizes, and draws accuracy over the bytes of the packed file.
#
# A comparison that is worth quoting needs several seeds, more epochs and a larger data set:
# [Schemes](../schemes.md) has one. This one shows how to make your own.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt

import onebit
from onebit.plots import scheme_figure

# %% [markdown]
# ## The methods
#
# A recipe takes a scheme by its name. `binary=False` makes every layer float, as the baseline.

# %%
METHODS = {
    "float": {"binary": False},
    "Bipolar": {"scheme": "Bipolar"},
    "BinaryConnect": {"scheme": "BinaryConnect"},
    "BinaryNet": {"scheme": "BinaryNet"},
    "DoReFa, 1 and 2 bits": {"scheme": "DoReFa(weights=1, activations=2)"},
    "ReActNet": {"scheme": "ReActNet"},
    "BitNet158": {"scheme": "BitNet158"},
}
SIZES = {"small": ([8, 16], [32]), "large": ([16, 32], [64])}

# %% [markdown]
# What distinguishes them is what they make of a latent weight in the forward pass, and what stands for the
# derivative of that step in the backward pass. `onebit plot scheme NAME` draws it.

# %%
scheme_figure(onebit.schemes.ReActNet())

# %% [markdown]
# ## Train all of them

# %%
points = []
for size, (widths, hidden) in SIZES.items():
    for name, keys in METHODS.items():
        run = onebit.train(
            "digits",
            f"runs/{len(points)}",
            model="vgg",
            widths=widths,
            hidden=hidden,
            hybrid=False,
            epochs=4,
            progress=False,
            **keys,
        )
        report = onebit.pack(run.model, "model.onebit", run.task, run.training)
        accuracy = 100 * run.result()["test_accuracy"]
        points.append((name, report.parameter_bytes, accuracy))
        print(f"{name:22} {size:6} {report.parameter_bytes:8,} bytes {accuracy:6.1f} %")

# %% [markdown]
# ## Accuracy over bytes
#
# Binary parameters take a ninth to a twenty-fifth of the bytes here: the bits, and the floats that a method
# keeps. The best of the larger binary networks are as accurate as the float ones, in a sixth of the smaller
# one's bytes.

# %%
figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
for name in METHODS:
    own = [(bytes_packed, accuracy) for method, bytes_packed, accuracy in points if method == name]
    axis.plot(*zip(*own, strict=True), "o-", label=name)
axis.set_xscale("log")
axis.set_xlabel("bytes of the parameters, packed")
axis.set_ylabel("test accuracy, %")
axis.grid(alpha=0.3)
axis.legend()
plt.show()

# %% [markdown]
# ## Speed
#
# Fewer bits of activations are faster in the engine too: `onebit bench FILE` measures a file.
# [Kernels](../kernels.md#layers-of-signs) compares products of signs with products of bytes.

# %% [markdown]
# ## Read on
#
# - [Schemes](../schemes.md): formulas, sources, and a comparison on CIFAR-10.
# - [Accuracy](../accuracy.md): what closes the gap to float networks.
# - [Training](../training.md): teachers, warm starts and two stages, for each of these methods.
