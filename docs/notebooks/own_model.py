# %% [markdown]
# # Convert a model of your own
#
# `onebit.convert` makes the layers of any PyTorch model binary, in place. This notebook takes a plain
# network, converts it, trains it in a plain loop, packs it and runs the file.

# %%
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import onebit

torch.manual_seed(0)
torch.set_num_threads(1)
digits = onebit.data.load_images("digits", size=(16, 16), channels=1)

# %% [markdown]
# ## The model
#
# Nothing in it knows of onebit.


# %%
class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.conv = nn.Conv2d(16, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * 4 * 4, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, 1, 16, 16)
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.relu(self.hidden(x.flatten(1)))
        return self.head(x)  # (batch, 10)


# %% [markdown]
# ## Convert
#
# The report says what became of each layer. By default the first and the last stay float: they are small,
# and matter most. `keep=()` converts them too.

# %%
model = Network()
print(onebit.convert(model))

# %% [markdown]
# Where do the bytes go? `summary` counts them, now and packed. It needs the shape of an input.

# %%
print(onebit.summary(model, (1, 16, 16)))

# %% [markdown]
# ## Train
#
# The loop is the one that a float network would have. The optimizer is made after the conversion, because it
# has to hold the latents.

# %%
x = torch.from_numpy(digits.train.pixels).permute(0, 3, 1, 2).float() / 255
y = torch.from_numpy(digits.train.labels)
epochs, batch = 6, 32
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * (len(x) // batch))
for epoch in range(epochs):
    losses = []
    for rows in torch.randperm(len(x))[: len(x) // batch * batch].split(batch):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")

# %% [markdown]
# ## Pack and run
#
# The task says what the file should know: the labels, the size of an image, and how its pixels are scaled.
# `mean=(0,)` and `std=(1,)` mean that pixels are divided by 255, as above.

# %%
task = onebit.ImageTask(labels=digits.train.classes, image_size=(16, 16), channels=1, mean=(0.0,), std=(1.0,))
print(onebit.pack(model.eval(), "own.onebit", task))

# %%
session = onebit.load("own.onebit", threads=1)
answers = session(digits.test.pixels).argmax(1)
with torch.no_grad():
    pixels = torch.from_numpy(digits.test.pixels).permute(0, 3, 1, 2).float() / 255
    trained = model(pixels).argmax(1).numpy()
print(f"engine {(answers == digits.test.labels).mean():.3f}, PyTorch {(trained == digits.test.labels).mean():.3f}")
print(f"{(answers != trained).sum()} of {len(answers)} answers differ: the engine rounds activations to 8 bits")

# %% [markdown]
# With `precision="float32"` the engine computes as PyTorch does, except for the order of additions.

# %%
exact = onebit.load("own.onebit", precision="float32", threads=1)(digits.test.pixels)
with torch.no_grad():
    expected = model(pixels).numpy()
print(f"largest difference of a logit: {np.abs(exact - expected).max():.1e}")
assert np.allclose(exact, expected, atol=1e-3)

# %% [markdown]
# ## A way back
#
# `to_float` turns binary layers into float ones. With `values="quantized"` they get the values of the bits:
# plus and minus one.

# %%
print(onebit.to_float(model, values="quantized"))
print(model.conv)

# %% [markdown]
# ## Read on
#
# [Models of your own](../convert.md) lists what can be converted and packed, timm's and Hugging Face's among
# them.
