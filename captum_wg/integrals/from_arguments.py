"""The rule that the arguments of `attribute` name: n_steps and method, or n_samples and sampling."""

from __future__ import annotations

from captum_wg.engine.checks import check_bool, check_choice, warn
from captum_wg.integrals.adaptive import Adaptive
from captum_wg.integrals.automatic import Automatic
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.nodes import METHODS
from captum_wg.integrals.random import Random, Seed, Staggered
from captum_wg.integrals.rule import SHARED_END, Refinable, Rule

ADAPTIVE = "adaptive"
SAMPLINGS = ("random", "staggered")
MANY_GRADIENTS = 5000
RETURN_STEPS = "return_steps tells what n_steps='auto' took; give that, or leave return_steps out"

Steps = int | str | Automatic


def steps_rule(n_steps: Steps, method: str, return_steps: bool = False) -> Refinable:
    """That of n_steps points a path.

    Raises:
        TypeError, ValueError: an argument that can't be; a method that an automatic rule can't refine; return_steps of
            a rule that takes as many as it was told.
    """
    check_choice(method, "method", (*METHODS, ADAPTIVE))
    check_bool(return_steps, "return_steps")
    if isinstance(n_steps, str):
        if n_steps != "auto":
            raise ValueError(f"n_steps must be a whole number of at least 1, 'auto' or an Automatic, got {n_steps!r}")
        n_steps = Automatic()
    if isinstance(n_steps, Automatic):
        if method not in ("gausslegendre", SHARED_END):
            raise ValueError(
                f"method={method!r} can't be refined: n_steps='auto' uses {SHARED_END!r}; leave method out"
            )
        return n_steps
    if return_steps:
        raise ValueError(RETURN_STEPS)
    return Adaptive(n_steps) if method == ADAPTIVE else Fixed(method, n_steps)


def warn_of_cost(rule: Rule, n_baselines: int) -> None:
    """A UserWarning before a walk of many hours, as a training set for baselines takes it."""
    points = getattr(rule, "points", 0)
    if points * n_baselines > MANY_GRADIENTS:
        warn(
            f"{n_baselines} baselines with {points} points each are {points * n_baselines} gradients an example. "
            "Fewer baselines (captum_wg.baselines.sample) or n_steps take less; so does ExpectedGradients with "
            "n_samples=200, which draws so many points over all baselines, where Captum's GradientShap draws 5"
        )


def rule_of(
    n_steps: Steps,
    method: str,
    return_steps: bool,
    n_samples: int | None,
    sampling: str,
    stdevs: float | tuple[float, ...],
    generator: Seed,
) -> Rule:
    """That of n_samples points for all paths together where they are given, else that of n_steps.

    Raises:
        TypeError, ValueError: as `steps_rule`; noise for points that are not random; automatic steps with n_samples.
    """
    check_choice(sampling, "sampling", SAMPLINGS)
    if sampling != "random" and n_samples is None:
        raise ValueError(f"sampling={sampling!r} says how n_samples points are spread; give n_samples too")
    noisy = any(s != 0 for s in (stdevs if isinstance(stdevs, tuple) else (stdevs,)))
    if noisy and (n_samples is None or sampling != "random"):
        raise ValueError(
            "stdevs adds noise to random samples; give n_samples with sampling='random', or use NoiseTunnel"
        )
    if n_samples is None:
        return steps_rule(n_steps, method, return_steps)
    check_choice(method, "method", (*METHODS, ADAPTIVE))
    if isinstance(n_steps, str | Automatic):
        raise ValueError("n_steps='auto' and n_samples exclude each other; give one of them")
    if return_steps:
        raise ValueError(RETURN_STEPS)
    return Staggered(n_samples, generator) if sampling == "staggered" else Random(n_samples, stdevs, generator)
