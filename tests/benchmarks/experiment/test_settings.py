import shlex

import pytest

from benchmarks.experiment.settings import Experiment, command, experiments, options
from benchmarks.run.errors import BenchmarkError

NEEDED = ["--data", "imagenet", "--root", "DIR", "--models", "resnet50"]


def parsed(*words, **options_of):
    return options("some_command", "Some.", "out", **options_of).parse_args([*NEEDED, *words])


def test_every_option_decides_the_field_of_its_name():
    words = ["--seed", "3", "--n-baselines", "4", "--alpha", "0.3", "--fresh-draws", "--radius", "inf", "--batch", "8"]
    (experiment,) = experiments(parsed(*words))
    assert (experiment.seed, experiment.n_baselines, experiment.alpha, experiment.batch) == (3, 4, 0.3, 8)
    assert experiment.fresh_draws and experiment.radius == float("inf") and experiment.model == "resnet50"
    assert experiments(parsed(), together=8)[0].together == 8


def test_defaults_are_those_of_the_experiment_but_for_a_commands_own():
    (experiment,) = experiments(parsed())
    own = Experiment(model="resnet50", data="imagenet", root=experiment.root)
    assert experiment == own and experiment.root.startswith("/")
    assert experiments(parsed(n_steps=7))[0].n_steps == 7
    with pytest.raises(SystemExit):
        parsed("--masks", "x", without=("--masks",))


def test_the_printed_command_is_the_one_that_was_given():
    given = parsed("--seed", "3", "--weights", "x.pt", "--jobs", "2", "--chunk", "4", "--fresh-draws")
    words = shlex.split(command(given, "some_command"))
    assert words[:3] == ["python", "-m", "benchmarks.some_command"] and not {"--jobs", "--chunk", "--out"} & set(words)
    again = options("some_command", "Some.", "out").parse_args(words[3:])
    assert {**vars(again), "jobs": 2, "chunk": 4} == vars(given)


def test_weights_belong_to_models():
    two = ["--models", "a", "b", "--weights", "a=x.pt", "b=y.pt"]
    assert [one.weights.rpartition("/")[2] for one in experiments(parsed(*two))] == ["x.pt", "y.pt"]
    assert experiments(parsed("--weights", "x.pt"))[0].weights.endswith("/x.pt")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--weights", "vgg16=x.pt"], "give NAME=FILE with a NAME of --models"),
        (["--models", "a", "a"], "names a model twice"),
        (["--instances", "x.json"], "--instances is of --data coco alone, but --data is imagenet"),
        (["--images-dir", "x"], "--images-dir is of --data coco alone"),
        (["--references", "x", "--baselines", "uniform"], "--references is of --baselines references alone"),
        (["--data", "cifar10", "--labels", "x"], "--labels is of --data imagenet alone, but --data is cifar10"),
    ],
)
def test_options_that_would_say_nothing(words, message):
    with pytest.raises(BenchmarkError, match=message):
        experiments(parsed(*words))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(data="films"), "data must be one of .*got 'films'"),
        (dict(baselines="none"), "baselines must be one of"),
        (dict(n_steps=0), "n_steps must be at least 1, got 0"),
        (dict(alpha=1.0), "alpha must lie between 0 and 1"),
    ],
)
def test_settings_that_can_not_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**{"model": "resnet50", "data": "imagenet", **changes})


@pytest.mark.parametrize(
    "words, message",
    [
        (["--images", "-1"], "must be at least 0, got -1"),
        (["--radius", "0"], "must be a number above 0, or inf, got 0.0"),
        (["--radius", "nan"], "must be a number above 0, or inf, got nan"),
        (["--n-steps", "many"], "invalid integer value: 'many'"),
        (["--alpha", "1"], "must lie between 0 and 1"),
        (["--neutral", "pink"], "invalid choice: 'pink'"),
    ],
)
def test_numbers_that_can_not_be_meant(words, message, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert message in capsys.readouterr().err


def test_rows_take_the_experiments_settings():
    experiment = Experiment(model="m", data="digits", n_baselines=4, neutral="mean", n_steps=3)
    row = experiment.method("WeightedGradients(power=2)").weighting
    assert (row.pool, row.n_steps, row.fitness.neutrals) == (4, 3, ("mean",))
    assert [one.name for one in experiment.methods(["Random", "Random", "BestSingle"])] == ["Random", "BestSingle"]
    assert experiment.for_judges(7).classes == 7
