from __future__ import annotations

import pytest

from captum_wg import Automatic
from captum_wg.integrals.adaptive import Adaptive
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.from_arguments import rule_of, steps_rule
from captum_wg.integrals.nodes import METHODS
from captum_wg.integrals.random import Random, Staggered


def rule(n_steps=50, method="gausslegendre", return_steps=False, n_samples=None, sampling="random", stdevs=0.0):
    return rule_of(n_steps, method, return_steps, n_samples, sampling, stdevs, None)


def test_the_rule_that_arguments_name():
    for method in METHODS:
        made = rule(7, method)
        assert isinstance(made, Fixed) and made.method == method and len(made.quadrature[0]) == 7
    assert isinstance(rule(7, "adaptive"), Adaptive) and rule(7, "adaptive").n_steps == 7
    for method in ("gausslegendre", "riemann_shared_end"):
        assert rule("auto", method) == Automatic()
        assert rule(Automatic(0.1, 60), method, return_steps=True) == Automatic(0.1, 60)
    drawn = rule(n_samples=9, stdevs=(0.1, 0.0))
    assert isinstance(drawn, Random) and (drawn.n_samples, drawn.stdevs) == (9, (0.1, 0.0))
    assert isinstance(rule(n_samples=9, sampling="staggered"), Staggered)
    # With n_samples neither steps nor method count, but a wrong name is still one.
    assert isinstance(rule(7, "adaptive", n_samples=9), Random)
    assert isinstance(rule(stdevs=(0.0, 0)), Fixed)


BOTH = [
    ({"method": "simpson"}, "method must be one of .*'riemann_shared_end', 'adaptive'"),
    ({"method": None}, "method must be one of"),
    ({"n_steps": 0}, "n_steps must be a whole number of at least 1, got 0"),
    ({"n_steps": 1.5}, "n_steps must be a whole number of at least 1, got 1.5"),
    ({"n_steps": 0, "method": "adaptive"}, "n_steps must be a whole number of at least 1, got 0"),
    ({"n_steps": "many"}, "n_steps must be a whole number of at least 1, 'auto' or an Automatic, got 'many'"),
    *[
        ({"n_steps": n, "method": m}, f"method={m!r} can't be refined.*uses 'riemann_shared_end'; leave method out")
        for n in ("auto", Automatic())
        for m in ("riemann_left", "adaptive")
    ],
    ({"return_steps": True}, "return_steps tells what n_steps='auto' took"),
    ({"return_steps": True, "method": "adaptive"}, "return_steps tells what n_steps='auto' took"),
]


@pytest.mark.parametrize(("kwargs", "match"), BOTH, ids=str)
def test_steps_that_name_no_rule(kwargs, match):
    with pytest.raises(ValueError, match=match):
        rule(**kwargs)
    with pytest.raises(ValueError, match=match):
        steps_rule(**{"n_steps": 50, "method": "gausslegendre", **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"sampling": "sobol", "n_samples": 3}, r"sampling must be one of \('random', 'staggered'\), got 'sobol'"),
        ({"sampling": "staggered"}, "sampling='staggered' says how n_samples points are spread; give n_samples too"),
        ({"stdevs": 0.1}, "stdevs adds noise to random samples; give n_samples with sampling='random'"),
        ({"stdevs": (0.0, 0.1)}, "stdevs adds noise to random samples"),
        ({"stdevs": 0.1, "n_samples": 3, "sampling": "staggered"}, "stdevs adds noise to random samples"),
        ({"n_samples": 3, "method": "simpson"}, "method must be one of"),
        ({"n_samples": 3, "n_steps": "auto"}, "n_steps='auto' and n_samples exclude each other"),
        ({"n_samples": 3, "n_steps": Automatic()}, "n_steps='auto' and n_samples exclude each other"),
        ({"n_samples": 3, "return_steps": True}, "return_steps tells what n_steps='auto' took"),
        ({"n_samples": 0}, "n_samples must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_samples_that_name_no_rule(kwargs, match):
    with pytest.raises(ValueError, match=match):
        rule(**kwargs)
