"""The modules behind a function are found, whatever the function is made of."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from torch import nn

from captum_wg.engine.train_mode import modules_of, warn_of_train_mode

GLOBAL = nn.Dropout(0.5)


class Callable_:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    def method(self, x):
        return self.model(x)


def by_global(x):
    return GLOBAL(x)


def forms(model):
    return {
        "module": model,
        "lambda": lambda x: model(x),
        "default": lambda x, m=model: m(x),
        "bound method": model.forward,
        "method of an object": Callable_(model).method,
        "callable object": Callable_(model),
        "partial": functools.partial(lambda m, x: m(x), model),
        "list": lambda x, ms=[model]: ms[0](x),
        "dict in an object": Callable_({"net": model}),
        "lambda of a lambda": (lambda f: lambda x: f(x))(lambda x: model(x)),
    }


@pytest.mark.parametrize("form", list(forms(nn.Identity())))
def test_the_module_is_found(form):
    model = nn.Dropout(0.5)
    assert model in list(modules_of(forms(model)[form]))
    with pytest.warns(UserWarning, match=r"train mode \(Dropout\)"):
        warn_of_train_mode(forms(model)[form])
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_train_mode(forms(model)[form])


def test_a_global_module_is_found():
    with pytest.warns(UserWarning, match="Dropout"):
        warn_of_train_mode(by_global)


def test_a_global_in_a_comprehension_is_found_and_an_attribute_of_its_name_is_none():
    assert list(modules_of(lambda xs: [GLOBAL(x) for x in xs])) == [GLOBAL]
    assert list(modules_of(lambda xs: xs.GLOBAL)) == []


def test_dropout_of_nothing_is_no_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_train_mode(nn.Dropout(0.0))


@pytest.mark.parametrize("function", [torch.sin, len, lambda x: x + 1, Callable_])
def test_what_holds_no_module(function):
    assert list(modules_of(function)) == []
