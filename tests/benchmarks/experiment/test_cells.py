import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch

from benchmarks.experiment import cells
from benchmarks.experiment.cells import Chunk, bounds, ingredient, per_image, scores, stored, values
from benchmarks.judges import columns
from benchmarks.judges.judge import Judge, JudgeSettings
from benchmarks.methods import rows
from benchmarks.methods.method import Method, explained
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import seeded
from benchmarks.run.store import open_store

KEY = ("maps", "row")


@pytest.fixture
def register(monkeypatch):
    """Puts a row into the registry that explains by a function of a batch."""

    def row(explain, name="row", **more):
        monkeypatch.setitem(rows.ROWS, name, explained(name, explain, **more))

    return row


@pytest.fixture
def chunk(chosen):
    return Chunk("000000-000002", chosen(2, 0))


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path, {})


def explain(ready, store, chunk, name="row"):
    """Make and store the only ingredient of a row."""
    (own,) = ready.experiment.method(name).ingredients
    table = ingredient(ready.experiment, store, name, (own.kind, own.name, own.count), chunk)
    store.write((*own.key, chunk.name), table)
    return table


def judged(ready, store, chunk, judge="Sparseness-1ch", name="row", **options):
    keys = [own.key for own in ready.experiment.method(name).every]
    return scores(ready.experiment, store, {name: keys}, [judge], chunk, **options)


def test_maps_come_back_bit_for_bit(ready, register, store, chunk):
    register(lambda batch: np.pi * batch.inputs)
    table = explain(ready, store, chunk)
    assert table["name"].tolist() == ["02", "00"] and set(table["problem"]) == {""}
    assert (table["seconds"] > 0).all() and (table["forwards"] == 0).all()
    expected = [(np.pi * ready.input(image)).numpy() for image in chunk.images]
    assert np.array_equal(np.stack(values(store, KEY, chunk)), np.stack(expected))


def test_gradients_and_forwards_of_a_map_are_counted(ready, store, chunk):
    table = explain(ready, store, chunk, "ExpectedGradients")
    assert (table["gradients"] == 2 * 2).all()
    row = judged(ready, store, chunk, name="ExpectedGradients")
    assert (row["gradients"] == 4).all() and (row["seconds"] == table["seconds"]).all()


def test_a_row_without_maps_has_its_reason_in_place_of_scores(ready, register, store, chunk):
    def fail(batch):
        raise ValueError("no\nmap")

    register(fail)
    assert explain(ready, store, chunk)["problem"].tolist() == ["ValueError: no map"] * 2
    assert values(store, KEY, chunk) == ["ValueError: no map"] * 2
    found = judged(ready, store, chunk)
    assert found["problem"].tolist() == ["ValueError: no map"] * 2 and found["score"].isna().all()


def test_maps_of_another_shape_have_their_reason(ready, register, store, chunk):
    register(lambda batch: batch.inputs[:1])
    message = "ValueError: the maps have shape (1, 3, 32, 32), the inputs (2, 3, 32, 32)"
    assert explain(ready, store, chunk)["problem"].tolist() == [message] * 2


def test_a_fitness_without_its_maps_has_their_reason(ready, store, chunk, monkeypatch):
    def fail(*given):
        raise ValueError("no map")

    maps, fitness = ready.experiment.method("WeightedGradients").ingredients
    with monkeypatch.context() as patch:
        patch.setattr(type(maps), "make", fail)
        explain(ready, store, chunk, "ExpectedGradients")
    which = (fitness.kind, fitness.name, fitness.count)
    table = ingredient(ready.experiment, store, "WeightedGradients", which, chunk, [maps.key])
    assert table["problem"].tolist() == ["ValueError: no map"] * 2
    store.write((*fitness.key, chunk.name), table)
    assert judged(ready, store, chunk, name="WeightedGradients")["problem"].tolist() == ["ValueError: no map"] * 2
    assert judged(ready, store, chunk, name="Random")["problem"].tolist() == [""] * 2


def test_a_judge_that_refuses_maps_has_its_reason_in_place_of_scores(ready, register, store, chunk):
    register(lambda batch: torch.zeros_like(batch.inputs))
    explain(ready, store, chunk)
    found = judged(ready, store, chunk)
    assert found["problem"].str.contains("all equal to zero").all() and found["score"].isna().all()


def test_a_judge_that_gives_no_number_is_told(ready, store, chunk, monkeypatch):
    odd = Judge("odd", lambda settings: lambda **_: [1.0, float("nan")], True)
    monkeypatch.setitem(columns.JUDGES, "odd", odd)
    found = judged(ready, store, chunk, "odd", "Random")
    assert found["problem"].tolist() == ["", "the judge gave nan"] and found["score"][0] == 1


@pytest.mark.parametrize(
    "metric, reason",
    [
        (lambda **_: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda **_: [1.0], r"scores of shape \(1,\) for 2 images"),
    ],
)
def test_a_failing_metric_shows_its_own_reason(metric, reason, ready, store, chunk, monkeypatch):
    monkeypatch.setitem(columns.JUDGES, "bad", Judge("bad", lambda settings: metric, True))
    found = judged(ready, store, chunk, "bad", "Random")
    assert found["problem"].str.contains(reason).all() and found["score"].isna().all()


@pytest.mark.parametrize(
    "error, raised",
    [
        (OSError("no space left"), BenchmarkError),
        (MemoryError("too large"), BenchmarkError),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate"), BenchmarkError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), RuntimeError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), BenchmarkError),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), BenchmarkError),
    ],
)
def test_a_full_disk_or_memory_is_no_result(error, raised, ready, register, store, chunk):
    def fail(batch):
        raise error

    register(fail)
    with pytest.raises(raised, match=re.escape(str(error))):
        explain(ready, store, chunk)


def test_maps_of_other_images_are_not_judged(ready, register, store, chunk):
    register(lambda batch: batch.inputs)
    explain(ready, store, chunk)
    other = dataclasses.replace(chunk, images=chunk.images[::-1])
    with pytest.raises(BenchmarkError, match=r"the results maps/row in .* are of other images than are chosen now"):
        judged(ready, store, other)


def test_images_that_change_during_a_run_end_it(ready, register, store, chunk):
    register(lambda batch: batch.inputs)
    ready.pictures.sources[0] = ready.pictures.sources[1]
    with pytest.raises(BenchmarkError, match="00 has changed since it was chosen"):
        explain(ready, store, chunk)


def test_warnings_are_kept_once_with_the_maps_and_when_explained_again(ready, register, store, chunk):
    known = [ready.input(image) for image in chunk.images]

    def warn(batch):
        seen = any(torch.equal(batch.inputs[0], one) for one in known)
        for _ in range(2):
            warnings.warn("look\n here" if seen else "never seen", stacklevel=1)
        return batch.inputs

    register(warn)
    assert explain(ready, store, chunk)["warnings"].tolist() == [["look here"]] * 2
    assert stored(store, KEY, chunk)["warnings"].map(list).tolist() == [["look here"]] * 2
    found = judged(ready, store, chunk, "MaxSensitivity", limit=1)
    assert found["name"].tolist() == ["02"] and found["again"].tolist() == [["never seen"]]
    assert judged(ready, store, chunk)["again"].tolist() == [[], []]
    assert judged(ready, store, chunk)["warnings"].tolist() == [["look here"]] * 2


@pytest.mark.parametrize("name", [n for n, judge in columns.JUDGES.items() if not (judge.masks or judge.alone)])
def test_a_score_is_that_of_the_metric_called_directly(name, ready, store, chunk):
    explain(ready, store, chunk, "Saliency")
    judge = columns.JUDGES[name]
    found = judged(ready, store, chunk, name, "Saliency")
    assert found["problem"].tolist() == ["", ""] and found["score"].between(-1, 8).all()

    x = torch.stack([ready.input(image) for image in chunk.images]).numpy()
    y = np.array([image.label for image in chunk.images])

    def explain_by_gradient(model, inputs, targets, **_):
        leaf = torch.tensor(inputs, requires_grad=True)
        model(leaf)[range(len(inputs)), torch.as_tensor(targets)].sum().backward()
        maps = leaf.grad.abs().numpy()
        return maps if judge.form == 3 else maps.sum(1, keepdims=True)

    with seeded(0, judge.stream, x.tobytes()):
        direct = judge.make(JudgeSettings(classes=10))(
            model=ready.network.model,
            x_batch=x,
            y_batch=y,
            a_batch=explain_by_gradient(ready.network.model, x, y),
            explain_func=explain_by_gradient,
            explain_func_kwargs={},
        )
    np.testing.assert_allclose(found["score"], per_image(direct, 2), rtol=1e-5)


def test_sanity_checks_tell_a_network_from_edges(ready, store, chunk):
    for name in ("MPRT", "RandomLogit"):
        assert judged(ready, store, chunk, name, "EdgeDetector")["score"].tolist() == pytest.approx([1, 1])
        assert judged(ready, store, chunk, name, "Random")["score"].abs().max() < 0.15
        explain(ready, store, chunk, "ExpectedGradients")
        assert judged(ready, store, chunk, name, "ExpectedGradients")["score"].between(-1, 0.95).all()


def test_a_judge_of_masks_needs_one(ready, store, chunk):
    found = judged(ready, store, chunk, "OverlapAUC", "EdgeDetector")
    assert set(found["problem"]) == {"ValueError: OverlapAUC needs the object's mask; got none"}
    object.__setattr__(ready, "mask_of", lambda position, label: (np.eye(32, dtype=bool), ""))
    assert judged(ready, store, chunk, "OverlapAUC", "EdgeDetector")["score"].between(0, 1).all()


def test_scores_repeat_and_move_no_generator(ready, store, chunk):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    explain(ready, store, chunk, "GradientShap")
    for judge in ("PixelFlipping-1ch", "MaxSensitivity"):
        first, again = (judged(ready, store, chunk, judge, "GradientShap")["score"] for _ in range(2))
        assert np.array_equal(first, again)
        object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, seed=1))
        assert not np.array_equal(first, judged(ready, store, chunk, judge, "GradientShap")["score"])
        object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, seed=0))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_draws_of_a_row_follow_from_the_seed_and_the_images_together(ready, register, tmp_path, chosen):
    register(lambda batch: torch.rand(batch.inputs.shape))
    chunk = Chunk("000000-000004", chosen(2, 0, 1, 3))

    def drawn(name):
        store = open_store(tmp_path / name, {})
        explain(ready, store, chunk)
        return np.stack(values(store, KEY, chunk))

    first = drawn("a")
    assert np.array_equal(first, drawn("b")) and not np.array_equal(first[:2], first[2:])
    object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, seed=1))
    assert not np.array_equal(first, drawn("c"))


def test_the_draws_of_a_metric_are_those_of_the_images_and_the_same_for_every_row(ready, store, chunk, monkeypatch):
    drawing = Judge("drawing", lambda settings: lambda **given: np.random.rand(len(given["x_batch"])), True)
    monkeypatch.setitem(columns.JUDGES, "drawing", drawing)
    monkeypatch.setitem(columns.JUDGES, "alone", dataclasses.replace(drawing, name="alone", alone=True, stream="alone"))
    turned = dataclasses.replace(chunk, images=chunk.images[::-1])
    for judge in ("drawing", "alone"):
        found = judged(ready, store, chunk, judge, "Random")["score"].tolist()
        assert found == judged(ready, store, chunk, judge, "EdgeDetector")["score"].tolist()
        again = judged(ready, store, turned, judge, "Random")["score"].tolist()
        # One image at a time, an image's draws are its own.
        assert (again == found[::-1]) == (judge == "alone")


def test_rows_of_one_source_and_columns_of_one_stream_explain_again_once(ready, store, chunk, monkeypatch):
    calls = []

    def noisy(batch):
        calls.append(len(batch.inputs))
        return torch.cat([batch.inputs, batch.inputs + torch.rand(batch.inputs.shape)], 1)

    for i in range(2):
        row = explained(f"row{i}", noisy, part=(i, 2), source="both")
        monkeypatch.setitem(rows.ROWS, row.name, row)
    explain(ready, store, chunk, "row0")
    assert calls == [2]
    both = {f"row{i}": [("maps", "both")] for i in range(2)}
    found = scores(ready.experiment, store, both, ["MaxSensitivity", "AvgSensitivity"], chunk)
    # Ten times perturbed, for both rows and both columns.
    assert calls == [2] * 11
    wide = found.pivot(index=["method", "name"], columns="judge", values="score")
    assert (wide["MaxSensitivity"] >= wide["AvgSensitivity"]).all() and len(found) == 8


def test_rows_that_draw_do_so_anew_when_they_explain_again(ready, store, chunk):
    blind, noise = (judged(ready, store, chunk, "MaxSensitivity", name)["score"] for name in ("EdgeDetector", "Random"))
    assert (noise > 0.1).all() and (blind < noise).all()


def test_curves_are_held_where_they_are_asked_for(ready, store, chunk):
    assert "curve" not in judged(ready, store, chunk, "DeletionAUC", "Random")
    object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, curves=True, levels=5))
    found = judged(ready, store, chunk, "DeletionAUC", "Random")
    assert [np.mean(curve) for curve in found["curve"]] == pytest.approx(found["score"].tolist())
    assert found["curve"].map(len).tolist() == [5, 5]
    assert judged(ready, store, chunk, "Sparseness-1ch", "Random")["curve"].map(len).tolist() == [0, 0]


def test_maps_are_given_to_metrics_in_the_form_of_the_column(ready, store, chunk, monkeypatch):
    shapes = {}
    for name, form in (("one", 1), ("all", 3), ("own", None)):
        see = lambda name: lambda settings: lambda **given: shapes.update({name: given["a_batch"].shape}) or [0.0, 0.0]  # noqa: E731
        monkeypatch.setitem(columns.JUDGES, name, Judge(name, see(name), True, form))
        judged(ready, store, chunk, name, "Random")
    assert shapes == {"one": (2, 1, 32, 32), "all": (2, 3, 32, 32), "own": (2, 1, 32, 32)}
    monkeypatch.setitem(
        rows.ROWS, "Random", Method("Random", combine=lambda x, values, generator: x.numpy(), channels=3)
    )
    judged(ready, store, chunk, "own", "Random")
    assert shapes["own"] == (2, 3, 32, 32)


def test_a_curve_counts_by_its_mean():
    assert per_image([[1.0, 0.5], [0.0, 1.0]], 2).tolist() == [0.75, 0.5]
    assert per_image(np.array([1.0, 2.0]), 2).tolist() == [1, 2]
    assert per_image({10: 0.25, 20: 0.75}, 1).tolist() == [0.5]


@pytest.mark.parametrize("found", [[1.0], 3.0, np.zeros((2, 2, 2)), {10: 0.5}])
def test_scores_that_are_not_one_per_image(found):
    with pytest.raises(ValueError, match="for 2 images"):
        per_image(found, 2)


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (8, [(0, 8)]),
        (9, [(0, 9)]),
        (10, [(0, 8), (8, 10)]),
        (17, [(0, 8), (8, 17)]),
        (24, [(0, 8), (8, 16), (16, 24)]),
    ],
)
def test_no_group_but_the_only_one_is_of_one_image(count, found):
    assert bounds(count, 8) == found
    assert Chunk("", (None,) * count).groups(8) == [slice(*pair) for pair in found]
    assert len(Chunk("", (None,) * count).groups(1)) == count
    assert bounds(9, 8, alone=True) == [(0, 8), (8, 9)]


def test_the_probability_of_a_prediction_is_the_models(ready):
    table = cells.predictions(ready.experiment, [3])
    with torch.no_grad():
        output = ready.network.model(ready.input(cells.Chosen(3, "03", int(table["crc"][0]), 0))[None]).softmax(1)[0]
    assert table["probability"][0] == pytest.approx(output.max().item()) and table["predicted"][0] == output.argmax()
    assert table["status"][0] == "used" and table["label"][0] == table["predicted"][0]
