import pytest
import torch

from benchmarks.models.checkpoints import load_checkpoint, resnet18_32, save_atomically
from benchmarks.run.errors import BenchmarkError


def test_half_precision_checkpoint(tmp_path):
    model = resnet18_32().eval()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, tmp_path / "m.pt")
    loaded = load_checkpoint(tmp_path / "m.pt")
    x = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(x), model(x), atol=0.02, rtol=0.02)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(BenchmarkError, match=r"--weights .*none\.pt does not exist"):
        load_checkpoint(tmp_path / "none.pt")


def test_unreadable_checkpoint(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(BenchmarkError, match="could not be read"):
        load_checkpoint(tmp_path / "text.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list; a state_dict is needed"), ({"weight": torch.ones(1)}, "does not fit a ResNet-18")],
)
def test_checkpoint_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(BenchmarkError, match=message):
        load_checkpoint(tmp_path / "m.pt")


def test_nothing_is_left_of_a_failed_write(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"f": lambda: None}, tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []
