"""Whole data sets: the same maps as by hand, the same bits whatever carries them out, and what is refused."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, IntegratedGradients, LayerIntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from captum_wg import (
    AttributionDataset,
    AttributionResult,
    Automatic,
    Deletion,
    ExpectedGradients,
    GeneralizedAttribution,
    WeightedGradients,
    attribute_dataset,
)

SIZES = {"group_size": 4, "shard_size": 8, "threads": 1, "show_progress": False}
ROOT = Path(__file__).parents[3]


class Streamed(IterableDataset):
    def __init__(self, *tensors):
        self.tensors = tensors

    def __iter__(self):
        return zip(*self.tensors, strict=True)


class Pictured(Dataset):
    """Items made when they are asked for."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.full((3, 5, 4), 1.0 + i)


def by_hand(attribute, *columns, size=4):
    """attribute(*rows) for groups of consecutive rows, below each other."""
    with torch.backends.cudnn.flags(enabled=True):
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return torch.cat([attribute(*(c[i : i + size] for c in columns)) for i in range(0, len(columns[0]), size)])
        finally:
            torch.set_num_threads(before)


def all_of(maps) -> Tensor:
    return torch.stack(list(maps))


# ---------------------------------------------------------------- the maps


def test_maps_are_those_of_the_method_for_each_group(net, load, pictures, labels, tmp_path):
    method = ExpectedGradients(net)
    baselines = torch.zeros(2, 3, 5, 4)
    maps = attribute_dataset(method, load(), tmp_path / "out", {"baselines": baselines, "n_steps": 5}, **SIZES)
    literal = by_hand(lambda x, y: method.attribute(x, baselines, y, n_steps=5), pictures, labels)
    assert torch.equal(all_of(maps), literal)


def test_a_method_of_captum(net, load, pictures, labels, tmp_path):
    method = IntegratedGradients(net)
    kwargs = {"n_steps": 6, "return_convergence_delta": True}
    maps = attribute_dataset(method, load(), tmp_path / "out", kwargs, **SIZES)
    literal = by_hand(lambda x, y: method.attribute(x, target=y, **kwargs)[0], pictures, labels)
    deltas = by_hand(lambda x, y: method.attribute(x, target=y, **kwargs)[1], pictures, labels)
    assert torch.equal(torch.stack([m.attributions for m in maps]), literal)
    assert torch.equal(torch.stack([m.delta for m in maps]), deltas)
    assert maps[3].weights is None and len(maps[3]) == 2


def test_a_layer_of_captum(net, load, pictures, labels, tmp_path):
    method = LayerIntegratedGradients(net, net[0])
    maps = attribute_dataset(method, load(), tmp_path / "out", {"n_steps": 3}, **SIZES)
    assert torch.equal(all_of(maps), by_hand(lambda x, y: method.attribute(x, target=y, n_steps=3), pictures, labels))


def test_a_callable_gets_inputs_target_and_the_rest(load, pictures, labels, tmp_path):
    def scaled(inputs, target, factor):
        return inputs * target.view(-1, 1, 1, 1) * factor

    maps = attribute_dataset(scaled, load(), tmp_path / "out", {"factor": 2.0}, **SIZES)
    assert torch.equal(all_of(maps), pictures * labels.view(-1, 1, 1, 1) * 2)


def test_deltas_weights_and_steps_come_back(net, load, pictures, labels, tmp_path):
    method = WeightedGradients(net)
    baselines = torch.stack([torch.zeros(3, 5, 4), torch.ones(3, 5, 4), torch.full((3, 5, 4), 0.5)])
    kwargs = {
        "baselines": baselines,
        "n_steps": Automatic(tolerance=0.05),
        "weighting": Deletion(output="softmax", alpha=0.99, neutral=1.0),
        "return_convergence_delta": True,
        "return_weights": True,
        "return_steps": True,
    }
    maps = attribute_dataset(method, load(), tmp_path / "out", kwargs, dtype=torch.float16, **SIZES)
    whole = method.attribute(pictures, target=labels, **kwargs)
    assert len(whole.weights.unique()) > 2
    item = maps[9]
    assert isinstance(item, AttributionResult)
    attributions, delta, weights, steps = item
    assert attributions.dtype == torch.float16 and weights.dtype == delta.dtype == torch.float32
    torch.testing.assert_close(attributions, whole.attributions[9].half(), atol=1e-4, rtol=2e-3)
    torch.testing.assert_close(delta, whole.delta[9], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights, whole.weights[9])
    assert torch.equal(steps, whole.steps[9])


def test_samples_of_gradientshap_stand_beside_their_example(net, load, tmp_path):
    kwargs = {"baselines": torch.zeros(2, 3, 5, 4), "n_samples": 3, "return_convergence_delta": True}
    maps = attribute_dataset(GradientShap(net), load(), tmp_path / "out", kwargs, **SIZES)
    assert maps[0].delta.shape == (3,)


def test_measures_come_back_by_name(net, load, pictures, tmp_path):
    method = GeneralizedAttribution(net)
    kwargs = {"baselines": torch.zeros(1, 3, 5, 4), "n_samples": 4, "measures": ["gradient_variance", "stability"]}
    maps = attribute_dataset(method, load(), tmp_path / "out", kwargs, **SIZES)
    assert maps[0].keys() == {"gradient_variance", "stability"}
    assert maps[0]["gradient_variance"].shape == pictures[0].shape


def test_several_inputs_and_arguments_of_each_example(tmp_path):
    a, b, scale = torch.rand(10, 3), torch.rand(10, 2), torch.arange(10.0)

    def model(x, z, factor):
        return (x.sum(1) + 2 * z.sum(1)) * factor

    batches = [
        {"inputs": (a[i : i + 3], b[i : i + 3]), "additional_forward_args": scale[i : i + 3]} for i in range(0, 10, 3)
    ]
    maps = attribute_dataset(ExpectedGradients(model), batches, tmp_path / "out", {"n_steps": 2}, **SIZES)
    assert isinstance(maps[0], tuple)
    torch.testing.assert_close(torch.stack([m[0] for m in maps]), a * scale.view(-1, 1))
    torch.testing.assert_close(torch.stack([m[1] for m in maps]), 2 * b * scale.view(-1, 1))


def test_targets_of_several_indices(pictures, tmp_path):
    targets = [(i % 3, i % 2) for i in range(len(pictures))]  # collate makes two Tensors of these

    def model(x):
        return x[:, :, :2, 0]

    maps = attribute_dataset(
        Saliency(model), DataLoader([*zip(pictures, targets, strict=True)], 7), tmp_path / "out", **SIZES
    )
    one = torch.zeros(len(pictures), 3, 5, 4)
    for i, (channel, row) in enumerate(targets):
        one[i, channel, row, 0] = 1
    assert torch.equal(all_of(maps), one)


def test_a_target_for_all_stands_in_place_of_the_loaders(net, load, pictures, tmp_path):
    maps = attribute_dataset(Saliency(net), load(), tmp_path / "out", {"target": 2}, **SIZES)
    assert torch.equal(all_of(maps), by_hand(lambda x: Saliency(net).attribute(x, target=2), pictures))


def test_the_order_is_the_samplers(net, pictures, tmp_path):
    order = [7, 3, 3, 20, 0]
    loader = DataLoader(pictures, 2, sampler=order)
    maps = attribute_dataset(Saliency(net), loader, tmp_path / "out", {"target": 0}, **SIZES)
    torch.testing.assert_close(all_of(maps), Saliency(net).attribute(pictures[order], target=0))


# ---------------------------------------------------------------- the same bits


@pytest.mark.parametrize("method", [ExpectedGradients, GradientShap], ids=lambda m: m.__name__)
def test_the_loaders_batches_change_no_bit(method, net, pictures, labels, load, contents, tmp_path):
    kwargs = {"baselines": torch.zeros(3, 3, 5, 4)}
    loaders = {
        "of one": load(1),
        "of seven": load(7),
        "all": load(100),
        "batches of an own kind": load(1, num_workers=0, collate_fn=torch.utils.data.default_collate),
        "stream": DataLoader(Streamed(pictures, labels), 3),
        "large stream": DataLoader(Streamed(pictures, labels), 100),
        "list": [(pictures[:13], labels[:13]), (pictures[13:], labels[13:])],
    }
    made = {}
    for name, loader in loaders.items():
        attribute_dataset(method(net), loader, tmp_path / name, kwargs, **SIZES)
        made[name] = {k: v for k, v in contents(tmp_path / name).items() if k.startswith("00")}
    assert len(made["of one"]) == 3
    # The settings of a stream don't know how many examples there are, so compare what is stored.
    stored = {name: all_of(AttributionDataset(tmp_path / name)) for name in loaders}
    assert all(torch.equal(maps, stored["of one"]) for maps in stored.values())
    assert made["of one"] == made["of seven"] == made["all"] == made["batches of an own kind"]


def test_shards_are_independent(net, load, contents, tmp_path):
    def run(name, **options):
        return attribute_dataset(
            NoiseTunnel(Saliency(net)), load(), tmp_path / name, {"nt_samples": 2}, **SIZES, **options
        )

    run("whole")
    assert run("parts", shards=slice(1, None, 2)) is None
    with pytest.raises(ValueError, match="only some of the maps"):
        AttributionDataset(tmp_path / "parts")
    assert run("parts", shards=[2]) is None
    assert len(run("parts", shards=slice(0, None, 2))) == 22
    reverse = run("tasks", parallel=lambda tasks: [f(*a, **k) for f, a, k in reversed([*tasks])])
    assert len(reverse) == 22
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts") == contents(tmp_path / "tasks")


def test_shards_of_a_stream(net, pictures, labels, contents, tmp_path):
    def run(name, **options):
        loader = DataLoader(Streamed(pictures, labels), 3)
        return attribute_dataset(Saliency(net), loader, tmp_path / name, **SIZES, **options)

    run("whole")
    assert run("parts", shards=slice(1, None, 2)) is None
    assert run("parts", shards=slice(0, None, 2)) is not None
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_run_that_failed_goes_on_where_it_was(net, load, contents, tmp_path):
    calls = []

    class Interrupted(Saliency):
        limit = None

        def attribute(self, *args, **kwargs):
            calls.append(1)
            if self.limit and len(calls) > self.limit:
                raise KeyboardInterrupt
            return super().attribute(*args, **kwargs)

    attribute_dataset(Interrupted(net), load(), tmp_path / "whole", **SIZES)
    assert len(calls) == 6
    calls.clear()
    Interrupted.limit = 3
    with pytest.raises(KeyboardInterrupt):
        attribute_dataset(Interrupted(net), load(), tmp_path / "cut", **SIZES)
    assert sorted(contents(tmp_path / "cut")) == ["000000.safetensors", "settings.json"]
    calls.clear()
    Interrupted.limit = None
    attribute_dataset(Interrupted(net), load(7), tmp_path / "cut", **SIZES)
    assert len(calls) == 4
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    calls.clear()
    assert len(attribute_dataset(Interrupted(net), load(), tmp_path / "cut", **SIZES)) == 22
    assert not calls


def test_a_stream_goes_on_where_it_was(load, pictures, labels, contents, tmp_path):
    seen = []

    class Noted(Saliency):
        def attribute(self, inputs, target):
            seen.append(len(inputs))
            return inputs

    def run(name, **options):
        attribute_dataset(Noted(abs), DataLoader(Streamed(pictures, labels), 3), tmp_path / name, **SIZES, **options)

    run("cut", shards=[1])
    assert seen == [4, 4]
    run("cut")
    assert seen == [4, 4, 4, 4, 4, 2]
    run("cut")
    assert len(seen) == 6
    run("whole")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_damaged_shard_is_made_anew(net, load, contents, tmp_path):
    attribute_dataset(Saliency(net), load(), tmp_path / "out", **SIZES)
    before = contents(tmp_path / "out")
    path = tmp_path / "out" / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"000001.safetensors is missing or damaged .* call attribute_dataset again"):
        AttributionDataset(tmp_path / "out")[8]
    attribute_dataset(Saliency(net), load(), tmp_path / "out", **SIZES)
    assert contents(tmp_path / "out") == before


def test_global_generators_and_threads_are_left_alone(net, load, tmp_path):
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), torch.get_num_threads()
    sizes = {**SIZES, "threads": 2}
    attribute_dataset(GradientShap(net), load(), tmp_path / "out", {"baselines": torch.zeros(3, 3, 5, 4)}, **sizes)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == before[3]


def test_a_seed_decides_what_is_drawn(net, load, tmp_path):
    kwargs = {"baselines": torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(0)), "stdevs": 0.1}
    first, again, other = (
        all_of(attribute_dataset(GradientShap(net), load(), tmp_path / name, kwargs, seed=seed, **SIZES))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_groups_of_a_set_draw_differently(tmp_path):
    maps = attribute_dataset(
        lambda x, _: torch.rand_like(x) + np.random.rand() + random.random(), [torch.ones(8, 3)], tmp_path, **SIZES
    )
    assert len({float(m[0]) for m in maps}) == 8


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(net, load, contents, tmp_path):
    net = net.cuda()
    before = torch.cuda.get_rng_state()
    for name, batch in (("one", 1), ("all", 100)):
        method = NoiseTunnel(ExpectedGradients(net))
        maps = attribute_dataset(method, load(batch), tmp_path / name, {"nt_samples": 2, "n_steps": 3}, **SIZES)
        assert maps[0].device.type == "cpu"
    assert contents(tmp_path / "one") == contents(tmp_path / "all")
    assert torch.equal(torch.cuda.get_rng_state(), before)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("n", [64, 256])
def test_no_more_maps_are_alive_than_a_shard_has(n, tmp_path):
    alive, most = set(), []

    def maps(inputs, _):
        made = inputs * 2
        number = object()
        alive.add(number)
        weakref.finalize(made, alive.discard, number)
        most.append(len(alive))
        return made

    gc.collect()
    attribute_dataset(maps, DataLoader(Pictured(n), 16), tmp_path, **SIZES)
    assert len(most) == n // 4
    assert max(most) <= 2 * SIZES["shard_size"] // SIZES["group_size"]


# ---------------------------------------------------------------- progress


def test_a_progress_bar_counts_examples(net, load, tmp_path, capsys):
    sizes = {**SIZES, "show_progress": True}
    attribute_dataset(Saliency(net), load(), tmp_path / "out", shards=[0], **sizes)
    assert "8/8" in capsys.readouterr().err
    attribute_dataset(Saliency(net), load(), tmp_path / "out", **sizes)
    assert "22/22" in capsys.readouterr().err
    attribute_dataset(Saliency(net), load(), tmp_path / "quiet", **SIZES)
    assert not capsys.readouterr().err


def test_groups_have_no_bars_of_their_own(net, load, tmp_path):
    shown = []

    class Noted(ExpectedGradients):
        def attribute(self, inputs, target=None, show_progress=None):
            shown.append(show_progress)
            return super().attribute(inputs, target=target, n_steps=2, show_progress=show_progress)

    attribute_dataset(Noted(net), load(), tmp_path / "out", **SIZES)
    attribute_dataset(Noted(net), load(), tmp_path / "asked", {"show_progress": True}, **SIZES)
    assert shown == [False] * 6 + [True] * 6


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute_kwargs": {"n_steps": 4}}, r"other settings: attribute_kwargs.n_steps: 3 there, 4 here"),
        ({"method": "another"}, r"method.forward_func.parameters: .* there, .* here"),
        ({"dtype": torch.float16}, r'dtype: "torch.float32" there, "torch.float16" here'),
        ({"group_size": 2}, r"group_size: 4 there, 2 here"),
        ({"shard_size": 4}, r"shard_size: 8 there, 4 here"),
        ({"seed": 1}, r"seed: 0 there, 1 here"),
        ({"threads": 2}, r"threads: 1 there, 2 here"),
        ({"loader": "other pictures"}, r"data.first group.inputs: .* there"),
        ({"loader": "fewer"}, r"data.examples: 22 there, 21 here"),
        ({"loader": "other order"}, r"data.order: null there, .* here"),
    ],
)
def test_a_folder_of_other_settings(change, message, net, pictures, labels, load, tmp_path):
    given = {"method": ExpectedGradients(net), "loader": load(), "attribute_kwargs": {"n_steps": 3}, **SIZES}
    attribute_dataset(out=tmp_path / "out", **given)
    other = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    other_things = {
        "another": ExpectedGradients(other),
        "other pictures": DataLoader(TensorDataset(pictures + 1, labels)),
        "fewer": DataLoader(TensorDataset(pictures[:21], labels[:21])),
        "other order": load(sampler=[0, 1, 2, 3, *range(21, 3, -1)]),
    }
    changed = {k: other_things.get(v, v) if isinstance(v, str) else v for k, v in change.items()}
    with pytest.raises(ValueError, match=message):
        attribute_dataset(out=tmp_path / "out", **{**given, **changed})


def test_a_folder_of_something_else(net, load, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds \['letters.txt'\] but no settings.json; give another"):
        attribute_dataset(Saliency(net), load(), tmp_path, **SIZES)


@pytest.mark.parametrize("method", [ExpectedGradients, IntegratedGradients], ids=lambda m: m.__module__)
def test_rows_that_influence_each_other(method, pictures, tmp_path):
    def centred(x):
        return ((x - x.mean(0)) ** 3).flatten(1).sum(1) + x.flatten(1).sum(1)

    loader = DataLoader(pictures, 5)
    with pytest.raises(ValueError, match=r"rows of method's forward_func influence each other.*group_size=1"):
        attribute_dataset(method(centred), loader, tmp_path / "out", **SIZES)
    alone = {**SIZES, "group_size": 1}
    kwargs = {"n_steps": 5, "internal_batch_size": 1}
    maps = attribute_dataset(method(centred), loader, tmp_path / "alone", kwargs, **alone)
    # A row by itself is its own mean.
    torch.testing.assert_close(all_of(maps), pictures)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": ExpectedGradients}, TypeError, "method must be an attribution object .* not its class"),
        ({"method": 3}, TypeError, "method must be an attribution object"),
        ({"attribute_kwargs": [1]}, TypeError, "attribute_kwargs must be a dictionary"),
        ({"attribute_kwargs": {"inputs": 1}}, ValueError, "attribute_kwargs has 'inputs'; they come from loader"),
        ({"attribute_kwargs": {"generator": torch.Generator()}}, ValueError, "give an int seed"),
        ({"attribute_kwargs": {"target": [1, 2]}}, ValueError, "one target for all examples"),
        ({"attribute_kwargs": {"target": torch.zeros(22).long()}}, ValueError, "one target for all examples"),
        ({"group_size": 0}, ValueError, "group_size must be a whole number of at least 1"),
        ({"shard_size": 6}, ValueError, "shard_size must be a multiple of group_size=4, got 6"),
        ({"dtype": torch.int8}, ValueError, "dtype must be a floating-point torch.dtype"),
        ({"dtype": "float16"}, ValueError, "dtype must be a floating-point torch.dtype"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0"),
        ({"threads": 0}, ValueError, "threads must be a whole number"),
        ({"show_progress": 1}, TypeError, "show_progress must be True or False"),
        ({"shards": [3]}, ValueError, r"shards must be numbers from 0 to 2, as there are 3 shards; got \[3\]"),
        ({"shards": [-1]}, ValueError, r"shards must be numbers from 0 to 2"),
        ({"shards": 1}, TypeError, "shards must be a slice or a list"),
        ({"shards": [0.5]}, TypeError, "shards must be a slice or a list"),
        ({"loader": []}, ValueError, "loader yields no examples"),
        ({"loader": [torch.ones(4, 60)], "parallel": list}, ValueError, "parallel needs a loader whose data set can"),
    ],
)
def test_bad_arguments(change, error, message, net, load, tmp_path):
    given = {"method": Saliency(net), "loader": load(), "out": tmp_path / "out", **SIZES, **change}
    with pytest.raises(error, match=message):
        attribute_dataset(**given)


def test_the_attribute_of_an_object_is_not_the_object(net, load, tmp_path):
    with pytest.raises(TypeError, match="not its class or its `attribute`"):
        attribute_dataset(Saliency(net).attribute, load(), tmp_path, **SIZES)


def test_an_argument_given_twice(net, pictures, tmp_path):
    loader = [{"inputs": pictures, "baselines": pictures}]
    with pytest.raises(ValueError, match=r"attribute_kwargs and the batches of loader both have \['baselines'\]"):
        attribute_dataset(IntegratedGradients(net), loader, tmp_path, {"baselines": 0, "target": 0}, **SIZES)


def test_what_a_method_may_not_return(load, tmp_path):
    with pytest.raises(ValueError, match="method returned 1 rows for 4 examples"):
        attribute_dataset(lambda x, _: x[:1], load(), tmp_path / "rows", **SIZES)
    with pytest.raises(TypeError, match="attributions must be a Tensor, or Tensors in tuples"):
        attribute_dataset(lambda x, _: None, load(), tmp_path / "none", **SIZES)
    with pytest.raises(ValueError, match=r"attributions reaches 1e\+05, which torch.float16 can't hold"):
        attribute_dataset(lambda x, _: x * 0 + 1e5, load(), tmp_path / "half", dtype=torch.float16, **SIZES)
    with pytest.raises(ValueError, match="the maps of all examples must have the same names and shapes"):
        attribute_dataset(lambda x, y: x[..., : 1 + y[0]], load(), tmp_path / "shapes", **SIZES)


def test_an_error_tells_the_examples(load, tmp_path):
    def choosy(x, target):
        if target[0] == 1:
            raise ValueError("no ones")
        return x

    with pytest.raises(ValueError, match=r"examples 4 to 7 of loader .*: no ones"):
        attribute_dataset(choosy, load(), tmp_path, **SIZES)


def test_workers_that_write_elsewhere(net, load, tmp_path):
    with pytest.raises(RuntimeError, match="3 shards that were made did not arrive"):
        attribute_dataset(Saliency(net), load(), tmp_path, parallel=lambda tasks: [0 for _ in tasks], **SIZES)


def test_without_safetensors(net, load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"pip install 'captum-wg\[datasets\]'"):
        attribute_dataset(Saliency(net), load(), tmp_path, **SIZES)


# ---------------------------------------------------------------- other processes


SCRIPT = """
    import sys, time
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from captum_wg import ExpectedGradients, attribute_dataset

    torch.manual_seed(0)
    scale = torch.rand(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 3), nn.Tanh()).eval()
    method = ExpectedGradients(lambda x: net(x) * scale)
    data = TensorDataset(torch.rand(40, 3, 5, 4), torch.arange(40) % 3)

    def slow(inputs, target, **kwargs):
        time.sleep(float(sys.argv[2]))
        return method.attribute(inputs, target=target, **kwargs)

    attribute_dataset(slow, DataLoader(data, int(sys.argv[3])), sys.argv[1], {"n_steps": 3}, group_size=2, shard_size=4,
                      threads=1)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(contents, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def command(out, seconds, batch):
        return [sys.executable, str(script), str(tmp_path / out), seconds, batch]

    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run(command("whole", "0", "5"), check=True, env=environment)
    process = subprocess.Popen(command("cut", "0.2", "5"), env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "000002.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()  # SIGKILL
    process.wait()
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut").glob("*.safetensors")}
    assert 3 <= len(made) < 10 and not (tmp_path / "cut" / "index.json").exists()
    subprocess.run(command("cut", "0", "9"), check=True, env=environment)
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len(AttributionDataset(tmp_path / "cut")) == 40
    whole, cut = contents(tmp_path / "whole"), contents(tmp_path / "cut")
    assert {k: v for k, v in cut.items() if not k.endswith(".part")} == whole


@pytest.mark.slow
def test_processes_of_joblib(net, load, contents, tmp_path):
    joblib = pytest.importorskip("joblib")
    method = WeightedGradients(lambda x: net(x).softmax(1))
    kwargs = {"baselines": torch.zeros(2, 3, 5, 4), "n_steps": 3, "weighting": "equal"}
    attribute_dataset(method, load(), tmp_path / "here", kwargs, **SIZES)
    parallel = joblib.Parallel(n_jobs=2, return_as="generator_unordered")
    maps = attribute_dataset(method, load(3), tmp_path / "there", kwargs, parallel=parallel, **SIZES)
    assert len(maps) == 22
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.slow
def test_workers_of_the_loader(net, load, contents, tmp_path):
    attribute_dataset(Saliency(net), load(), tmp_path / "none", **SIZES)
    attribute_dataset(Saliency(net), load(num_workers=2, prefetch_factor=3), tmp_path / "two", **SIZES)
    assert contents(tmp_path / "none") == contents(tmp_path / "two")
