"""One number for each token or word, out of attributions of an embedding's vectors.

Captum attributes to embedding layers and draws words (`captum.attr.visualization.visualize_text`); the way from (B, T,
E) to numbers that can be drawn it leaves to its user. Shapes: B texts of T tokens, E numbers in a token's vector, G
groups of tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

# A run of letters and digits, with what ties them together, or one sign.
WORD = r"\w+(?:[-'\u2019]\w+)*|[^\w\s]"

Offsets = Tensor | Sequence[Sequence[Sequence[int]]]


def word_groups(texts: Sequence[str], offsets: Offsets, pattern: str = WORD) -> tuple[Tensor, list[list[str]]]:
    """Which tokens make up a word: the numbers (B, T) of each token's group, and the words of each text.

    Word w of a text is the group w. A token belongs to the word that its first character, spaces aside, lies in; one
    that stands for no character, as those for beginning, end and padding do, is a group of its own, with a number that
    no word has. `groups.unsqueeze(-1)` is a feature_mask for activations (B, T, E) of an embedding.

    Args:
        texts: the B texts as they were handed to the tokenizer.
        offsets: for each token where it begins and ends in its text, (B, T, 2): what tokenizers of Hugging Face return
            for return_offsets_mapping=True.
        pattern: a regular expression for a word, such as r"\\S+", or r"\\w" where a sign is one; to it combining marks
            (vowel signs, accents of their own) and joiners are letters.

    Returns:
        Whole numbers (B, T), and B lists of words, as far as the tokens reach.

    Raises:
        ValueError: offsets of another shape, or outside of the text.

    Examples:
        >>> word_groups(["so-so film"], [[[0, 0], [0, 2], [2, 3], [3, 5], [6, 10], [0, 0]]])
        (tensor([[2, 0, 0, 0, 1, 7]]), [['so-so', 'film']])
    """
    try:
        spans = torch.as_tensor(offsets).tolist()
    except ValueError as error:
        raise ValueError(
            "offsets must have shape (B, T, 2), got other numbers of tokens for other texts; tokenize with padding=True"
        ) from error
    if len(spans) != len(texts) or any(len(span) != 2 for row in spans for span in row):
        raise ValueError(
            f"offsets must have shape (B, T, 2) for B = {len(texts)} texts, got {tuple(torch.as_tensor(offsets).shape)}"
        )
    found, words = [], []
    for text, row in zip(texts, spans, strict=True):
        matches = list(re.finditer(pattern, "".join("x" if _is_mark(c) else c for c in text)))
        of_character = {place: w for w, m in enumerate(matches) for place in range(*m.span())}
        numbers = []
        for start, stop in row:
            if not 0 <= start <= stop <= len(text):
                raise ValueError(
                    f"offsets hold ({start}, {stop}) for a text of {len(text)} characters; give the texts as they were "
                    "handed to the tokenizer"
                )
            places = (place for place in range(start, stop) if not text[place].isspace())
            numbers.append(of_character.get(next(places, -1)))
        found.append(numbers)
        words.append(
            [text[slice(*m.span())] for m in matches[: 1 + max((w for w in numbers if w is not None), default=-1)]]
        )
    most = max(map(len, words), default=0)
    groups = [[most + t if w is None else w for t, w in enumerate(numbers)] for numbers in found]
    return torch.tensor(groups, dtype=torch.long), words


def _is_mark(character: str) -> bool:
    """Whether it belongs to the letter before it: a vowel sign, an accent, a joiner."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def token_attributions(attributions: Tensor, groups: Tensor | None = None) -> Tensor:
    """The sum over a token's vector, (B, T), or over all tokens of a group, (B, G): the sum of a text's stays the same.

    Args:
        attributions: (B, T, E), of an embedding.
        groups: None, or the number of each token's group, (B, T) or (1, T), from `word_groups`; G is their largest, and
            1. A group that a text does not have gets 0.

    Raises:
        TypeError, ValueError: attributions that are not of shape (B, T, E), groups of another shape or kind.

    Examples:
        >>> vectors = torch.arange(8.0).view(1, 4, 2)
        >>> token_attributions(vectors)
        tensor([[ 1.,  5.,  9., 13.]])
        >>> token_attributions(vectors, torch.tensor([[0, 0, 1, 2]]))
        tensor([[ 6.,  9., 13.]])
    """
    if attributions.ndim != 3:
        raise ValueError(f"attributions must have shape (B, T, E), got {tuple(attributions.shape)}")
    tokens = attributions.sum(2)
    if groups is None:
        return tokens
    if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise TypeError(f"groups must hold whole numbers, got {groups.dtype}")
    if groups.ndim != 2 or groups.shape[1] != tokens.shape[1] or len(groups) not in (1, len(tokens)):
        raise ValueError(f"groups must have shape (B, T) = {tuple(tokens.shape)} or (1, T), got {tuple(groups.shape)}")
    if groups.numel() and groups.min() < 0:
        raise ValueError(f"groups must not be negative, got {int(groups.min())}")
    count = int(groups.max()) + 1 if groups.numel() else 0
    index = groups.to(device=tokens.device, dtype=torch.long).expand_as(tokens)
    return tokens.new_zeros(len(tokens), count).scatter_add(1, index, tokens)
