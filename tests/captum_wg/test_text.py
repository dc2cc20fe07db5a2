from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_wg import Deletion, LayerExpectedGradients, LayerWeightedGradients
from captum_wg.text import token_attributions, word_groups


def tokens_of(text, pieces):
    """The spans of pieces that follow each other in a text, None being a token for no character."""
    spans, place = [], 0
    for piece in pieces:
        if piece is None:
            spans.append((0, 0))
        else:
            start = text.index(piece, place)
            place = start + len(piece)
            spans.append((start, place))
    return spans


TEXTS = ["It's un-believ-able, really", "Good."]
PIECES = [
    [None, "It", "'", "s", "un", "-", "believ", "-able", ",", "real", "ly", None],
    [None, "Go", "od", ".", None, *[None] * 7],
]


def test_tokens_of_a_word_have_its_number_and_others_one_of_their_own():
    groups, words = word_groups(TEXTS, [tokens_of(t, p) for t, p in zip(TEXTS, PIECES, strict=True)])
    assert words == [["It's", "un-believ-able", ",", "really"], ["Good", "."]]
    assert groups.tolist() == [
        [4, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 15],
        [4, 0, 0, 1, 8, 9, 10, 11, 12, 13, 14, 15],
    ]


def test_a_space_before_a_word_belongs_to_its_token():
    # As tokenizers with " bc" for a token have it.
    groups, words = word_groups(["a bc d"], [[(0, 1), (1, 4), (4, 6), (4, 5)]])
    assert groups.tolist() == [[0, 1, 2, 6]] and words == [["a", "bc", "d"]]


def test_words_that_were_cut_off_are_left_out_and_a_pattern_says_what_a_word_is():
    offsets = torch.tensor([[[0, 3], [4, 5]]])
    groups, words = word_groups(["one t-wo three"], offsets)
    assert words == [["one", "t-wo"]] and groups.tolist() == [[0, 1]]
    assert word_groups(["one t-wo three"], offsets, r"\w")[1] == [["o", "n", "e", "t"]]
    assert word_groups(["好 的"], [[(0, 1), (2, 3)]], r"\S+")[1] == [["好", "的"]]


def test_vowel_signs_accents_and_joiners_are_within_words():
    for words in (["हिन्दी", "है"], ["cafe\u0301", "x"], ["Auf\u200clage", "on\u00adly"], ["כָּתַב", "הוּא"]):
        text = " ".join(words)
        spans = [(i, i + 1) for i in range(len(text)) if text[i] != " "]
        groups, found = word_groups([text], [spans])
        assert found == [words] and groups.tolist() == [[0] * len(words[0]) + [1] * len(words[1])]


def test_texts_without_tokens_have_whole_numbers():
    assert word_groups([""], torch.zeros(1, 0, 2))[0].dtype == torch.long


@given(st.text(max_size=30), st.integers(0, 5))
def test_every_character_of_a_word_has_the_same_group(text, padding):
    spans = [(i, i + 1) for i in range(len(text))] + [(0, 0)] * padding
    groups, words = word_groups([text], [spans]) if spans else (torch.zeros(1, 0).long(), [[]])
    joined = [""] * len(words[0])
    for number, (start, stop) in zip(groups[0].tolist(), spans, strict=True):
        if number < len(joined):
            joined[number] += text[start:stop]
    assert joined == words[0]
    others = [g for g in groups[0].tolist() if g >= len(joined)]
    assert len(set(others)) == len(others)


def test_sums_over_vectors_and_words_by_a_loop(draw):
    a = draw(2, 5, 3)
    groups = torch.tensor([[0, 1, 1, 3, 0], [2, 2, 2, 2, 0]])
    expected = [[0.0] * 4 for _ in range(2)]
    for b in range(2):
        for t in range(5):
            for e in range(3):
                expected[b][groups[b, t]] += a[b, t, e].item()
    torch.testing.assert_close(token_attributions(a, groups), torch.tensor(expected, dtype=a.dtype))
    torch.testing.assert_close(token_attributions(a), a.sum(2))
    torch.testing.assert_close(token_attributions(a, groups).sum(1), a.sum((1, 2)))
    shared = token_attributions(a, groups[:1])
    assert torch.equal(shared, token_attributions(a, groups[:1].expand(2, 5)))


def test_groups_are_a_feature_mask_at_an_embedding():
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(48, 1, bias=False)).double().requires_grad_(False)
    )
    for parameter in model.parameters():
        parameter.abs_()
    groups, _ = word_groups(TEXTS, [tokens_of(t, p) for t, p in zip(TEXTS, PIECES, strict=True)])
    ids, baselines = torch.randint(1, 20, (2, 12)), torch.randint(20, (3, 12))
    how = dict(n_steps=5, weighting=Deletion(tolerance=0.0, neutral=0.0))
    distances = LayerWeightedGradients(model, model[0]).fitness(
        ids, baselines, feature_mask=groups.unsqueeze(-1), **how
    )
    for b in range(2):
        for k in range(3):
            attributions = LayerExpectedGradients(model, model[0]).attribute(
                ids[b : b + 1], baselines[k : k + 1], n_steps=5
            )
            of_groups = token_attributions(attributions, groups[b : b + 1])[0]
            order = sorted(set(groups[b].tolist()), key=lambda g: -of_groups[g].item())
            z, whole = model[0](ids[b]), model(ids[b : b + 1]).item()
            for group in order[: int(distances[b, k]) - 1]:
                z[groups[b] == group] = 0.0
            assert model[1:](z[None]).item() > 0.5 * whole
            z[groups[b] == order[int(distances[b, k]) - 1]] = 0.0
            assert model[1:](z[None]).item() <= 0.5 * whole
    # "It's", three words more and two tokens of none; "Good", "." and nine tokens of none.
    assert [len(set(g)) for g in groups.tolist()] == [6, 11]


def test_bad_arguments(draw):
    with pytest.raises(ValueError, match=r"offsets must have shape \(B, T, 2\) for B = 2 texts, got \(1, 1, 2\)"):
        word_groups(["a", "b"], [[(0, 1)]])
    with pytest.raises(ValueError, match=r"offsets must have shape \(B, T, 2\)"):
        word_groups(["a"], [[(0, 1, 2)]])
    with pytest.raises(ValueError, match=r"offsets must .* other numbers of tokens for other texts.*padding=True"):
        word_groups(["ab", "c"], [[(0, 1), (1, 2)], [(0, 1)]])
    with pytest.raises(ValueError, match=r"offsets hold \(0, 3\) for a text of 1 characters"):
        word_groups(["a"], [[(0, 3)]])
    with pytest.raises(ValueError, match=r"attributions must have shape \(B, T, E\), got \(2, 3\)"):
        token_attributions(draw(2, 3))
    with pytest.raises(TypeError, match="groups must hold whole numbers"):
        token_attributions(draw(2, 3, 4), draw(2, 3))
    with pytest.raises(ValueError, match=r"groups must have shape \(B, T\) = \(2, 3\) or \(1, T\), got \(2, 4\)"):
        token_attributions(draw(2, 3, 4), torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match="groups must not be negative, got -1"):
        token_attributions(draw(2, 3, 4), torch.full((2, 3), -1))
