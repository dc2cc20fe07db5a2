import copy
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from benchmarks import attribution_experiment
from benchmarks.attribution_experiment import (
    LOCAL_IMAGES,
    Bench,
    Block,
    Experiment,
    describe,
    digest,
    local_images,
    local_radius,
    made_of,
)
from benchmarks.data import datasets as data
from benchmarks.old_methods import Method
from benchmarks.models import checkpoints as models
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import open_store
from benchmarks.run.versions import versions

EXPERIMENT = Experiment("noise", None, "", 1.0)


def use(monkeypatch, model, batch, explain):
    x, y = map(torch.from_numpy, batch)
    row = Method("row", "ours", explain)
    ready = Bench(EXPERIMENT, model, TensorDataset(x, y), {"row": row}, "cpu")
    monkeypatch.setattr(attribution_experiment, "bench", lambda experiment: ready)


def block(batch, *positions):
    x, y = (torch.from_numpy(part[list(positions)]) for part in batch)
    return Block(0, positions, digest(positions, x, y))


def test_the_local_radius_is_a_tenth_of_the_median_distance():
    assert local_radius(torch.zeros(2, 3, 4, 4), torch.ones(3, 3, 4, 4)) == pytest.approx(0.1 * 48**0.5, rel=1e-2)


def test_the_local_radius_is_of_the_first_images_in_the_order_of_the_seed():
    x = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    test = TensorDataset(x, torch.zeros(200))
    assert torch.equal(local_images(test, 5).x, x[data.order(test, 5)[:LOCAL_IMAGES]])


def test_maps_come_back_bit_for_bit(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: np.pi * inputs)
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 2, 0)))
    table = store.read(("maps",))
    assert table["image"].tolist() == [2, 0] and (table["seconds"] > 0).all() and set(table["reason"]) == {""}
    expected = (np.pi * tiny_batch[0][[2, 0]]).astype(np.float32)
    assert np.array_equal(attribution_experiment.stored_maps(table), expected)


def scores_of(store, block, judge="Sparseness-1ch", **options):
    return attribution_experiment.scores(EXPERIMENT, store, ("maps",), block, ["row"], [judge], **options)


def test_maps_of_another_shape_have_their_reason_in_place_of_scores(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: inputs[:1])
    table = attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 0, 1))
    assert table["reason"].tolist() == ["ValueError: the maps have shape (1, 3, 32, 32) instead of (2, 3, 32, 32)"] * 2
    store = open_store(tmp_path, {})
    store.write(("maps",), table)
    assert scores_of(store, block(tiny_batch, 0, 1))["score"].isna().all()


def test_images_that_change_during_a_run_end_it(monkeypatch, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: inputs)
    chosen = block((tiny_batch[0] + 1, tiny_batch[1]), 0, 1)
    with pytest.raises(BenchmarkError, match="images 0, 1 of the test part are not, in this worker, those that were"):
        attribution_experiment.maps(EXPERIMENT, "row", chosen)


def test_maps_of_other_images_are_not_judged(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: inputs)
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 0, 1)))
    with pytest.raises(BenchmarkError, match=r"the results maps in .* are of other images"):
        scores_of(store, block(tiny_batch, 1, 0))


def test_warnings_of_perturbed_images_are_kept(monkeypatch, tmp_path, tiny_model, tiny_batch):
    def explain(model, inputs, targets, device=None):
        if not any(np.array_equal(inputs[0], known) for known in tiny_batch[0]):
            warnings.warn("never seen", stacklevel=1)
        return inputs

    use(monkeypatch, tiny_model, tiny_batch, explain)
    store, chosen = open_store(tmp_path, {}), block(tiny_batch, 0, 1)
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", chosen))
    assert len(store.read(("maps",))["warnings"][0]) == 0
    table = scores_of(store, chosen, "MaxSensitivity", count=1)
    assert table["image"].tolist() == [0] and table["warnings"][0] == ["never seen"]
    assert scores_of(store, chosen)["warnings"].tolist() == [[], []]


def test_a_row_without_maps_has_its_reason_in_place_of_scores(monkeypatch, tmp_path, tiny_model, tiny_batch):
    def fail(model, inputs, targets, device=None):
        raise ValueError("no\nmap")

    use(monkeypatch, tiny_model, tiny_batch, fail)
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 0, 1)))
    assert store.read(("maps",))["reason"].tolist() == ["ValueError: no map"] * 2
    scores = scores_of(store, block(tiny_batch, 0, 1))
    assert scores["reason"].tolist() == ["ValueError: no map"] * 2 and scores["score"].isna().all()


def test_a_judge_that_refuses_maps_has_its_reason_in_place_of_scores(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: np.zeros_like(inputs))
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 0, 1)))
    scores = scores_of(store, block(tiny_batch, 0, 1))
    assert scores["reason"].str.startswith("AssertionError: ").all() and scores["score"].isna().all()


@pytest.mark.parametrize(
    "error, raised",
    [
        (OSError("no space left"), BenchmarkError),
        (MemoryError("too large"), BenchmarkError),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"),
            BenchmarkError,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), RuntimeError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), BenchmarkError),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), BenchmarkError),
    ],
)
def test_a_full_disk_or_memory_is_no_result(error, raised, monkeypatch, tmp_path, tiny_model, tiny_batch):
    def fail(model, inputs, targets, device=None):
        raise error

    use(monkeypatch, tiny_model, tiny_batch, fail)
    with pytest.raises(raised, match=re.escape(str(error))):
        attribution_experiment.maps(EXPERIMENT, "row", block(tiny_batch, 0, 1))


def test_the_settings_tell_experiments_apart(tmp_path, tiny_model):
    images = data.digits()
    references = data.sample_references(images.train, 2, 0)
    settings = describe(EXPERIMENT, images, references, tiny_model)
    assert {"references", "test images", "weights", "radius", "block", "versions", "device"} <= set(settings)
    assert not {"root", "images"} & set(settings)
    elsewhere = Experiment("noise", None, str(tmp_path), 1.0, device="cpu")
    assert describe(elsewhere, images, references, tiny_model) == settings
    assert describe(EXPERIMENT, images, references + 1, tiny_model)["references"] != settings["references"]
    other = TensorDataset(*(tensor.clone() for tensor in images.test.tensors))
    other.tensors[1][0] += 1
    changed = data.Images(images.name, images.train, other, images.mean, images.std, 10)
    assert describe(EXPERIMENT, changed, references, tiny_model)["test images"] != settings["test images"]
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model[0].bias += 1
    assert describe(EXPERIMENT, images, references, model)["weights"] != settings["weights"]


def write_network(path, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(models.resnet18_32().state_dict(), path)
    return str(path)


def settled(experiment):
    """The experiment as the command hands it to workers."""
    images = data.digits()
    references = data.sample_references(images.train, experiment.baselines, experiment.seed)
    return made_of(experiment, describe(experiment, images, references, models.load_checkpoint(experiment.weights)))


def test_workers_make_the_same_things_from_the_settings(tmp_path):
    experiment = settled(Experiment("digits", None, write_network(tmp_path / "m.pt", 0), 1.0, baselines=2))
    ready = attribution_experiment.bench(experiment)
    assert attribution_experiment.bench(experiment) is ready
    images = data.digits()
    x, y = data.stack(images.test, (7, 3))
    found = ready.batch(Block(0, (7, 3), digest((7, 3), x, y)))
    assert np.array_equal(found[0], x.numpy()) and found[1].tolist() == y.tolist()
    assert ready.device == "cpu" and not any(p.requires_grad for p in ready.model.parameters())


def test_a_network_that_changed_under_its_name_is_loaded_anew_or_refused(tmp_path):
    """A process lives on between commands, as a worker of a cluster does."""
    path = write_network(tmp_path / "m.pt", 0)
    before = settled(Experiment("digits", None, path, 1.0, baselines=2))
    first = models.checksum(attribution_experiment.bench(before).model)
    write_network(path, 1)
    after = settled(replace(before, made_of=""))
    assert after != before
    assert models.checksum(attribution_experiment.bench(after).model) != first
    with pytest.raises(BenchmarkError, match=r"the worker's .*m\.pt holds another network than the command's"):
        attribution_experiment.bench(before)


def test_a_worker_of_other_code_or_data_is_refused(tmp_path):
    experiment = settled(Experiment("digits", None, write_network(tmp_path / "m.pt", 0), 1.0, baselines=2))
    settings = json.loads(experiment.made_of)
    settings["versions"]["source"] = "newer"
    with pytest.raises(BenchmarkError, match=r"not have what the command has: versions\.source: .* \"newer\" here"):
        attribution_experiment.bench(made_of(experiment, settings))


def test_the_versions_are_those_of_the_imported_modules(monkeypatch):
    before = versions(attribution_experiment._SOURCES)
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"changed since")
    assert versions(attribution_experiment._SOURCES) == before
    assert versions(attribution_experiment._SOURCES[1:])["source"] != before["source"]
