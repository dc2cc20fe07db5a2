import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.models import checkpoints as models
from benchmarks.run.errors import BenchmarkError


def test_the_network_keeps_the_resolution_in_its_stem():
    model = models.resnet18_32().eval()
    shapes = []
    model.layer1.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(2, 64, 32, 32)]
    assert not any(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))


def test_half_precision_checkpoint(tmp_path):
    model = models.resnet18_32().eval()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, tmp_path / "m.pt")
    loaded = models.load_checkpoint(tmp_path / "m.pt")
    x = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(x), model(x), atol=0.02, rtol=0.02)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(BenchmarkError, match=r"--weights .*none\.pt does not exist"):
        models.load_checkpoint(tmp_path / "none.pt")


def test_unreadable_checkpoint(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(BenchmarkError, match="could not be read"):
        models.load_checkpoint(tmp_path / "text.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list; a state_dict is needed"), ({"weight": torch.ones(1)}, "does not fit a ResNet-18")],
)
def test_checkpoint_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(BenchmarkError, match=message):
        models.load_checkpoint(tmp_path / "m.pt")


def test_training_learns_repeats_and_leaves_the_global_generator():
    y = torch.arange(64) % 2
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + y.view(-1, 1, 1, 1)
    pairs = TensorDataset(x, y)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    before = torch.get_rng_state()
    models.train_network(model, pairs, seed=3, batch_size=8)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    assert not model.training
    assert models.accuracy(model, pairs) > 0.95
    models.train_network(model, pairs, seed=3, batch_size=8)
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_trained_once_and_then_read(tmp_path, monkeypatch):
    trainings = []

    def train(model, train, seed):
        trainings.append(seed)
        return model.eval()

    monkeypatch.setattr(models, "train_network", train)
    first = models.digits_model(None, tmp_path / "new" / "cache")
    second = models.digits_model(None, tmp_path / "new" / "cache")
    assert trainings == [0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    (cached,) = (tmp_path / "new" / "cache").iterdir()

    cached.write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="unusable and is trained anew"):
        models.digits_model(None, tmp_path / "new" / "cache")
    assert trainings == [0, 0]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "train_network", lambda model, train, seed: model.eval())
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be cached"):
        models.digits_model(None, tmp_path / "file")


def test_nothing_is_left_of_a_failed_write(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        models.save_atomically({"f": lambda: None}, tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.default_cache() == tmp_path / "captum-wg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert models.default_cache() == tmp_path / ".cache" / "captum-wg"


def test_ready_changes_no_output(tiny_model):
    x = torch.randn(2, 3, 32, 32)
    before = tiny_model(x)
    model = models.ready(tiny_model.train(), "cpu")
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(x), before)
