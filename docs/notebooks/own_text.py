# %% [markdown]
# # A language model of your own text
#
# This notebook trains a small 1-bit language model on a text, and lets it write. A real model learns for
# minutes to hours, from megabytes. This one has seconds, so it learns little more than words.

# %%
import math
import textwrap
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt

import onebit

# %% [markdown]
# ## The text
#
# Any UTF-8 file will do, or a folder of them. Here it is the reference of the Python language, which Python
# brings along for `help()`. Lines of tables and frames are left out.

# %%
whole = "\n\n".join(topics[name] for name in sorted(topics))
text = "\n".join(line for line in whole.splitlines() if not line.lstrip().startswith(("+", "|", "*", "=", "-")))
Path("reference.txt").write_text(text, encoding="utf-8")
print(f"{len(text):,} characters")
print("\n".join(text.splitlines()[:9]))

# %% [markdown]
# ## Train
#
# `tiny` is a recipe of the package: a decoder of about 2 million bits. The keys below make it smaller still.
# The tokenizer is trained first, on the part of the text that is trained on.

# %%
run = onebit.train(
    "tiny",
    "runs/reference",
    data="reference.txt",
    vocabulary=512,
    context=64,
    blocks=2,
    features=64,
    heads=2,
    head=[64],
    epochs=5,
    epoch_steps=60,
    batch_size=16,
    warmup=30,
    learning_rate=4e-3,
    threads=1,
    progress=False,
)
result = run.result()
print(f"{result['validation_bits_per_byte']:.2f} bits per byte, perplexity {result['validation_perplexity']:.0f}")

# %% [markdown]
# The end of the text was set aside for these figures. Bits per byte say how well the model would compress the
# text. They are comparable between tokenizers, which perplexities are not. Before it has learned anything, a
# model finds all tokens equally probable.

# %%
epochs = [row["epoch"] for row in run.curves()]
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.plot(epochs, [row["train_loss"] / math.log(2) for row in run.curves()], "o--", label="training")
axis.plot(epochs, [row["val_loss"] / math.log(2) for row in run.curves()], "o-", label="validation")
axis.axhline(math.log2(512), color="gray", linestyle=":", label="all tokens equally probable")
axis.set_xlabel("epoch")
axis.set_ylabel("bits per token")
axis.grid(alpha=0.3)
axis.legend()
plt.show()

# %% [markdown]
# ## Pack, and write
#
# The file holds the network and its tokenizer. A `seed` repeats a text.

# %%
report = onebit.pack(run.model, "reference.onebit", run.task, run.training)
print(f"{report.parameters:,} parameters, a file of {report.file_bytes:,} bytes")

# %%
session = onebit.load("reference.onebit", threads=1)
prompt = "The statement"
print(prompt + "".join(session.generate(prompt, max_new_tokens=80, temperature=0.7, seed=1)))

# %% [markdown]
# ## A model that had more time
#
# The package comes with a decoder of 31 million bits, trained on English books. It is used in the same way.

# %%
books = onebit.load("books")
written = prompt + "".join(books.generate(prompt, max_new_tokens=80, temperature=0.7, seed=1))
print(textwrap.fill(written, 88))

# %% [markdown]
# `score` gives the log-probability of each token of a text. The higher, the more the model expected it.

# %%
for piece, log_probability in books.score("He opened the door and went"):
    print(f"{piece!r:12} {log_probability:6.2f}")

# %% [markdown]
# ## Read on
#
# [Language models](../text.md) tells of recipes, tokenizers, figures and of every option of writing.
