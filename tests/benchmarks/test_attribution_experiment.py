import copy

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from benchmarks import attribution_experiment, data, models
from benchmarks.attribution_experiment import LOCAL_IMAGES, Bench, Experiment, describe, local_radius
from benchmarks.methods import Method
from benchmarks.store import open_store

EXPERIMENT = Experiment("noise", None, "", 1.0)


def use(monkeypatch, model, batch, explain):
    x, y = map(torch.from_numpy, batch)
    row = Method("row", "ours", explain)
    ready = Bench(EXPERIMENT, model, TensorDataset(x, y), {"row": row}, "cpu")
    monkeypatch.setattr(attribution_experiment, "bench", lambda experiment: ready)


def test_the_local_radius_is_a_tenth_of_the_median_distance():
    test = TensorDataset(torch.zeros(2, 3, 4, 4), torch.zeros(2))
    assert local_radius(test, torch.ones(3, 3, 4, 4), 0) == pytest.approx(0.1 * 48**0.5, rel=1e-2)


def test_the_local_radius_is_of_the_first_images_in_the_order_of_the_seed():
    x = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    test, references = TensorDataset(x, torch.zeros(200)), torch.ones(1, 3, 4, 4)
    first = x[data.order(test, 5)[:LOCAL_IMAGES]]
    distances = (first - references).flatten(1).norm(dim=1)
    assert local_radius(test, references, 5) == pytest.approx(0.1 * distances.median().item(), rel=1e-2)


def test_maps_come_back_bit_for_bit(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: np.pi * inputs)
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", (2, 0)))
    table = store.read(("maps",))
    assert table["image"].tolist() == [2, 0] and (table["seconds"] > 0).all() and set(table["reason"]) == {""}
    expected = (np.pi * tiny_batch[0][[2, 0]]).astype(np.float32)
    assert np.array_equal(attribution_experiment.stored_maps(table), expected)


def test_a_row_without_maps_has_its_reason_in_place_of_scores(monkeypatch, tmp_path, tiny_model, tiny_batch):
    def fail(model, inputs, targets, device=None):
        raise ValueError("no\nmap")

    use(monkeypatch, tiny_model, tiny_batch, fail)
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", (0, 1)))
    assert store.read(("maps",))["reason"].tolist() == ["ValueError: no map"] * 2
    scores = attribution_experiment.scores(EXPERIMENT, store, ("maps",), (0, 1), ["row"], ["Sparseness-1ch"])
    assert scores["reason"].tolist() == ["ValueError: no map"] * 2 and scores["score"].isna().all()


def test_a_judge_that_refuses_maps_has_its_reason_in_place_of_scores(monkeypatch, tmp_path, tiny_model, tiny_batch):
    use(monkeypatch, tiny_model, tiny_batch, lambda model, inputs, targets, device=None: np.zeros_like(inputs))
    store = open_store(tmp_path, {})
    store.write(("maps",), attribution_experiment.maps(EXPERIMENT, "row", (0, 1)))
    scores = attribution_experiment.scores(EXPERIMENT, store, ("maps",), (0, 1), ["row"], ["Sparseness-1ch"])
    assert scores["reason"].str.startswith("AssertionError: ").all() and scores["score"].isna().all()


@pytest.mark.parametrize("error", [OSError("no space left"), MemoryError("too large")])
def test_a_full_disk_or_memory_is_no_result(error, monkeypatch, tmp_path, tiny_model, tiny_batch):
    def fail(model, inputs, targets, device=None):
        raise error

    use(monkeypatch, tiny_model, tiny_batch, fail)
    with pytest.raises(type(error), match=str(error)):
        attribution_experiment.maps(EXPERIMENT, "row", (0, 1))


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


def test_workers_make_the_same_things_from_the_settings(tmp_path):
    torch.save(models.resnet18_32().state_dict(), tmp_path / "random.pt")
    experiment = Experiment("digits", None, str(tmp_path / "random.pt"), 1.0, baselines=2)
    ready = attribution_experiment.bench(experiment)
    assert attribution_experiment.bench(experiment) is ready
    x, y = ready.batch((7, 3))
    images = data.digits()
    assert np.array_equal(x, torch.stack([images.test[i][0] for i in (7, 3)]).numpy())
    assert y.tolist() == [int(images.test[i][1]) for i in (7, 3)]
    assert ready.device == "cpu" and not any(p.requires_grad for p in ready.model.parameters())
