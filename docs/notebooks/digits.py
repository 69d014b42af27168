# %% [markdown]
# # Digits, from end to end
#
# This notebook trains a network of single bits on handwritten digits. It packs the network into one file,
# runs the file, and checks that the file computes what was trained. All of it takes a few seconds.
#
# The commands `onebit train`, `pack`, `classify` and `verify` do the same from a shell.

# %%
import matplotlib.pyplot as plt
import numpy as np

import onebit

# %% [markdown]
# ## The data
#
# scikit-learn comes with 1,797 digits. A fifth of each class is set aside for the test.

# %%
digits = onebit.data.load_images("digits", size=(16, 16), channels=1)
print(digits.train.pixels.shape, digits.train.pixels.dtype)
print(digits.test.pixels.shape)

# %%
figure, axes = plt.subplots(1, 10, figsize=(9, 1.2))
for label, axis in enumerate(axes):
    first = np.flatnonzero(digits.test.labels == label)[0]
    axis.imshow(digits.test.pixels[first, ..., 0], cmap="gray")
    axis.set_title(label)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# ## Train
#
# `digits` is a recipe of the package. Keywords change its keys: here fewer epochs than its own 20. What is
# trained goes into a run folder.

# %%
run = onebit.train("digits", "runs/digits", epochs=6, progress=False)
print(run)

# %% [markdown]
# Each layer keeps a float number for each weight, the latent. The forward pass uses only its bit. The same
# network in float is its twin, `binary=False`; both normalise over the batch.

# %%
twin = onebit.train("digits", "runs/twin", epochs=6, binary=False, batch_norm=True, progress=False)
print(twin)

# %%
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, trained in {"one bit": run, "float": twin}.items():
    curves = trained.curves()
    axis.plot([row["epoch"] for row in curves], [100 * row["val_accuracy"] for row in curves], "o-", label=name)
axis.set_xlabel("epoch")
axis.set_ylabel("test accuracy, %")
axis.grid(alpha=0.3)
axis.legend()
plt.show()

# %% [markdown]
# ## Pack
#
# Packing drops the latents and keeps the bits. The report says what stays float: here a scale and a shift for
# each channel, which stand for the running statistics of a batch normalisation.

# %%
report = onebit.pack(run.model, "digits.onebit", run.task, run.training)
print(f"{report.parameters:,} parameters, {report.bit_parameters:,} of them one bit each")
print(f"{report.bytes_before:,} bytes as float32, {report.parameter_bytes:,} bytes packed")
print(f"{report.file_bytes:,} bytes of the file, with its program and its labels")

# %% [markdown]
# ## Run
#
# `onebit.load` gives a session in the C++ engine. It needs no PyTorch. Called with pixels, a session gives
# logits. `classify` takes files or arrays of any size and gives labels with their probabilities.

# %%
session = onebit.load("digits.onebit", threads=1)
logits = session(digits.test.pixels)
print(logits.shape, f"accuracy {(logits.argmax(1) == digits.test.labels).mean():.3f}")
for label, probability in session.classify([digits.test.pixels[0]], top=3)[0]:
    print(label, f"{probability:.3f}")

# %% [markdown]
# Which digits does it take for which?

# %%
table = np.zeros((10, 10), int)
np.add.at(table, (digits.test.labels, logits.argmax(1)), 1)
figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
axis.imshow(table, cmap="Blues")
for row, column in zip(*np.nonzero(table), strict=True):
    colour = "white" if table[row, column] > table.max() / 2 else "black"
    axis.text(column, row, table[row, column], ha="center", va="center", color=colour, fontsize=8)
axis.set_xlabel("answer")
axis.set_ylabel("digit")
axis.set_xticks(range(10))
axis.set_yticks(range(10))
plt.show()

# %% [markdown]
# ## Verify
#
# `verify` runs the test images through PyTorch, through the formulas in NumPy and through the engine. It
# compares their outputs. `int8` rounds the activations to 8 bits, which may move an answer that was close.

# %%
verification = onebit.verify("digits.onebit", run, threads=1)
print(verification)
assert verification.equal

# %% [markdown]
# ## Read on
#
# - [Images](../images.md): which folders of pictures can be trained on.
# - [Inside a packed file](packed_file.py): the engine's answer computed by hand.
# - [Compare methods](compare_methods.py): other ways to binarise the same network.
