import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.models import training
from benchmarks.run.errors import BenchmarkError


def test_training_learns_repeats_and_leaves_the_global_generator():
    y = torch.arange(64) % 2
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + y.view(-1, 1, 1, 1)
    pairs = TensorDataset(x, y)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    before = torch.get_rng_state()
    training.train_network(model, pairs, seed=3, batch_size=8)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    assert not model.training
    assert training.accuracy(model, pairs) > 0.95
    training.train_network(model, pairs, seed=3, batch_size=8)
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_trained_once_and_then_read(tmp_path, monkeypatch):
    trainings = []

    def train(model, train, seed):
        trainings.append(seed)
        return model.eval()

    monkeypatch.setattr(training, "train_network", train)
    first = training.digits_model(tmp_path / "new" / "cache")
    second = training.digits_model(tmp_path / "new" / "cache")
    assert trainings == [0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    (cached,) = (tmp_path / "new" / "cache").iterdir()

    cached.write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="unusable and is trained anew"):
        training.digits_model(tmp_path / "new" / "cache")
    assert trainings == [0, 0]


def test_networks_of_planted_data_are_cached_apart(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    trainings = []

    def train(model, train, seed, epochs):
        trainings.append((train.pictures.name, len(train), epochs))
        return model.eval()

    monkeypatch.setattr(training, "train_network", train)
    glyph, pixels, again = (training.trained(f"planted-{v}", cache=tmp_path) for v in ("glyph", "pixels", "glyph"))
    assert [name for name, *_ in trainings] == ["planted glyph on photographs", "planted pixels on photographs"]
    assert len(list(tmp_path.iterdir())) == 2
    assert all(torch.equal(a, b) for a, b in zip(glyph.parameters(), again.parameters(), strict=True))
    assert glyph(torch.zeros(2, 3, 32, 32)).shape == (2, 4)

    file = tmp_path / "own.pt"
    torch.save(pixels.state_dict(), file)
    own = training.trained("planted-glyph", weights=file)
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), pixels.parameters(), strict=True))
    torch.save({"0.weight": torch.zeros(3)}, file)
    with pytest.raises(BenchmarkError, match="does not fit a small network of 4 classes"):
        training.trained("planted-glyph", weights=file)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train_network", lambda model, train, seed: model.eval())
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be cached"):
        training.digits_model(tmp_path / "file")


def test_the_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert training.default_cache() == tmp_path / "captum-wg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert training.default_cache() == tmp_path / ".cache" / "captum-wg"
