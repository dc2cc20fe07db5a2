import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional

from benchmarks import train_cifar10
from benchmarks.data import selection
from benchmarks.data.datasets import load
from benchmarks.data.pictures import Pictures
from benchmarks.models import checkpoints, networks, training
from benchmarks.run.errors import BenchmarkError
from benchmarks.train_cifar10 import augment, choose_precision, decode, main, network_input, parse, run

REPOSITORY = Path(__file__).parents[2]
PER_CLASS = 6


def write_colours(root, classes):
    """An ImageFolder in which the mean colour tells the class."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            colour = np.array([label % 3, label // 3 % 3, label // 9]) * 100
            for i in range(PER_CLASS):
                pixels = np.clip(colour + generator.normal(20, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture
def root(tmp_path):
    return write_colours(tmp_path / "colours", 3)


@pytest.fixture
def tiny(monkeypatch):
    """In place of the ResNet-18: a network whose steps take no time."""

    def network(classes):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )

    monkeypatch.setattr(checkpoints, "resnet18_32", network)
    return network


def arguments(root, out, *more):
    """18 training images: three steps in each of two epochs."""
    given = {"--root": root, "--out": out, "--epochs": 2, "--batch-size": 6, "--precision": "float32"}
    return [str(part) for pair in given.items() for part in pair] + [str(part) for part in more]


def same(first, second):
    a, b = (torch.load(path, weights_only=True) for path in (first, second))
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def interrupt_at(monkeypatch, step):
    """Ctrl-C before the step of this number; returns the list of all steps begun."""
    begun = []

    def counted(*args):
        begun.append(len(begun))
        if begun[-1] == step:
            raise KeyboardInterrupt
        return augment(*args)

    monkeypatch.setattr(train_cifar10, "augment", counted)
    return begun


def test_it_learns_and_says_so(root, tmp_path, tiny, capsys):
    assert main(arguments(root, tmp_path / "m.pt", "--epochs", 20)) == 0
    out = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"epoch \d+ of 20: loss (\S+), \d+ images/s", out)]
    assert len(losses) == 20 and losses[-1] < losses[0] / 2
    printed = float(re.search(r"written to .*CIFAR-10 \(PNG\), accuracy (\S+)% on 18 test images", out)[1]) / 100
    model = tiny(3)
    model.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    train, test = load("cifar10", root)
    assert training.accuracy(model.eval(), train) > 0.9
    assert training.accuracy(model, test) == pytest.approx(printed, abs=1e-4)
    assert printed > 0.9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "m.pt"]


def test_a_transformer_learns_by_adamw_and_loads_by_its_name(root, tmp_path, capsys):
    path = tmp_path / "vit.pt"
    assert main(arguments(root, path, "--model", "vit_small", "--epochs", 4)) == 0
    losses = [float(value) for value in re.findall(r"epoch \d+ of 4: loss (\S+),", capsys.readouterr().out)]
    assert losses[-1] < losses[0]
    state = torch.load(path, weights_only=True)
    state |= {"heads.head.weight": torch.randn(10, 128), "heads.head.bias": torch.zeros(10)}
    torch.save(state, path)
    network = networks.load_network("vit_small_cifar10", path)
    assert network.classes == 10 and network.preparation == networks.CIFAR10
    with pytest.raises(BenchmarkError, match="does not fit a ResNet-18"):
        networks.load_network("resnet18_cifar10", path)
    with pytest.raises(BenchmarkError, match=r"small vision transformer.*--model vit_small"):
        networks.load_network("vit_small_cifar10")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_interruption_changes_no_bit(root, tmp_path, tiny, monkeypatch, capsys, step, precision):
    def epochs():
        return re.sub(r"\d+ images/s", "", "\n".join(re.findall("epoch .*", capsys.readouterr().out)))

    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    more = ["--precision", precision, "--checkpoint-seconds", 0]
    main(arguments(root, whole, *more))
    expected = epochs()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, step)
        main(arguments(root, parts, *more))
    assert not parts.exists()
    said = epochs()
    begun = interrupt_at(monkeypatch, None)
    assert main(arguments(root, parts, *more)) == 0
    assert len(begun) == 6 - step
    assert same(whole, parts)
    # Each epoch's loss is of all its steps, those before the interruption too.
    assert "\n".join(filter(None, (said, epochs()))) == expected


def test_each_epoch_takes_every_image_in_another_order(root, tmp_path, tiny, monkeypatch):
    seen, moved = [], []

    def watch(pixels, generator):
        seen.extend(image.numpy().tobytes() for image in pixels)
        moved.append(augment(pixels[:1].clone().fill_(255), generator))
        return augment(pixels, generator)

    monkeypatch.setattr(train_cifar10, "augment", watch)
    main(arguments(root, tmp_path / "m.pt"))
    first, second = seen[:18], seen[18:]
    assert len(set(first)) == 18 and set(first) == set(second) and first != second
    assert len({image.numpy().tobytes() for image in moved}) > 3
    main(arguments(root, tmp_path / "other.pt", "--seed", 1))
    assert set(seen[36:54]) == set(first) and seen[36:54] != first


def test_the_learning_rate_goes_through_one_cycle(root, tmp_path, tiny, monkeypatch):
    made, rates = [], []

    def make(*args, **options):
        made.append(training.one_cycle(*args, **options))
        return made[0]

    def watch(*args):
        rates.append(made[0][0].param_groups[0]["lr"])
        return augment(*args)

    monkeypatch.setattr(train_cifar10, "one_cycle", make)
    monkeypatch.setattr(train_cifar10, "augment", watch)
    main(arguments(root, tmp_path / "m.pt", "--epochs", 10, "--lr", 0.3))
    peak = int(np.argmax(rates))
    assert len(rates) == 30 and peak == 8
    assert rates[0] == pytest.approx(0.3 / 25) and max(rates) == pytest.approx(0.3)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-5


def test_accuracy_is_that_of_evaluation_and_leaves_the_network_in_training(root, tiny, monkeypatch):
    test = decode(train_cifar10.cifar10_pictures(root)[1], "test", None, 0)
    test = train_cifar10.Decoded(test.pixels[:10], torch.tensor([1] * 7 + [0] * 3))
    model = tiny(3)
    with torch.no_grad():
        # With its own statistics, far from those of any batch, class 1 wins; with a batch's, class 0.
        model[1].running_mean.fill_(-50.0)
        model[5].weight.zero_()
        model[5].weight[1, 0] = 1.0
        model[5].bias.copy_(torch.tensor([10.0, 0.0, 0.0]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert train_cifar10.accuracy(model.train(), test, "float32") == 0.7
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    monkeypatch.setattr(train_cifar10, "EVALUATED", 4)
    assert train_cifar10.accuracy(model, test, "bfloat16") == 0.7


def test_checkpoints_are_written_when_it_is_time(root, tmp_path, tiny, monkeypatch):
    for seconds in (3600, 0):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_at(patch, 4)
            main(arguments(root, tmp_path / "m.pt", "--checkpoint-seconds", seconds))
        assert (tmp_path / "m.pt.partial").exists() == (seconds == 0)


def test_other_seeds_give_other_weights(root, tmp_path, tiny):
    for seed in (0, 1):
        main(arguments(root, tmp_path / f"{seed}.pt", "--seed", seed))
    assert not same(tmp_path / "0.pt", tmp_path / "1.pt")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of POSIX")
def test_a_killed_training_of_the_real_network_goes_on_and_fits_the_tables(tmp_path, capsys):
    root = write_colours(tmp_path / "colours", 10)
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    more = ["--epochs", 1, "--train-images", 24, "--batch-size", 4, "--test-images", 2, "--checkpoint-seconds", 0]
    partial = tmp_path / "parts.pt.partial"
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train_cifar10", *arguments(root, parts, *more)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            while not partial.exists():
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
    assert not parts.exists()
    # As if it had been killed while it wrote.
    (tmp_path / "parts.pt.partial12345678.part").write_bytes(b"half")

    assert main(arguments(root, parts, *more)) == 0
    assert re.search(r"going on after step [1-5] of 6", capsys.readouterr().out)
    assert main(arguments(root, whole, *more)) == 0
    assert same(whole, parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "parts.pt", "whole.pt"]

    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    of_table = training.trained("cifar10", weights=parts)
    of_paper = networks.load_network("resnet18_cifar10", parts)
    assert of_paper.classes == 10
    assert of_table(x).isfinite().all()
    torch.testing.assert_close(of_paper.model(x), of_table(x))


def test_no_global_state_is_changed(root, tmp_path, tiny):
    def state():
        return (
            random.getstate(),
            str(np.random.get_state()),
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(),
        )

    settings = parse(
        arguments(root, tmp_path / "m.pt", "--precision", "bfloat16", "--train-images", 12, "--test-images", 4)
    )
    before = state()
    run(settings)
    assert state() == before


def interrupted(root, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 2)
        main(arguments(root, tmp_path / "m.pt", "--checkpoint-seconds", 0))


@pytest.mark.parametrize(
    "more, difference",
    [
        (["--epochs", 3], "epochs: 2 there, 3 here"),
        (["--lr", 0.2, "--seed", 5], r"lr: 0\.4 there, 0\.2 here; seed: 0 there, 5 here"),
        (["--precision", "bfloat16"], 'precision: "float32" there, "bfloat16" here'),
        (["--train-images", 12], "images: 18 there, 12 here; images' checksum: "),
    ],
)
def test_an_unfinished_training_of_other_settings_is_refused(
    root, tmp_path, tiny, monkeypatch, capsys, more, difference
):
    interrupted(root, tmp_path, monkeypatch)
    assert main(arguments(root, tmp_path / "m.pt", *more)) == 2
    message = capsys.readouterr().err
    assert re.search(rf"m\.pt\.partial is an unfinished training of other settings: {difference}", message)
    assert "delete it, or give another --out" in message


def test_other_threads_and_versions_are_told(root, tmp_path, tiny, monkeypatch, capsys):
    interrupted(root, tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0")
        patch.setattr(torch, "get_num_threads", lambda: 99)
        assert main(arguments(root, tmp_path / "m.pt")) == 0
    told = capsys.readouterr().err
    assert re.search(r'warning: .*threads: \d+ there, 99 here; torch: ".*" there, "1\.0" here', told)
    (tmp_path / "m.pt").unlink()
    interrupted(root, tmp_path, monkeypatch)
    assert main(arguments(root, tmp_path / "m.pt")) == 0
    assert "warning" not in capsys.readouterr().err


def test_weights_that_exist_beside_an_unfinished_training(root, tmp_path, tiny, monkeypatch, capsys):
    interrupted(root, tmp_path, monkeypatch)
    (tmp_path / "m.pt").write_text("kept")
    assert main(arguments(root, tmp_path / "m.pt")) == 2
    both = f"{tmp_path / 'm.pt'} exists; delete it and {tmp_path / 'm.pt.partial'} to train anew"
    assert both in capsys.readouterr().err


def test_an_unfinished_training_on_other_images_is_refused(root, tmp_path, tiny, monkeypatch, capsys):
    interrupted(root, tmp_path, monkeypatch)
    Image.new("RGB", (32, 32), (9, 9, 9)).save(root / "train/class0/0.png")
    assert main(arguments(root, tmp_path / "m.pt")) == 2
    assert "other settings: images' checksum: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"half a file", None])
def test_an_unreadable_checkpoint_is_refused(root, tmp_path, tiny, capsys, content):
    path = tmp_path / "m.pt.partial"
    path.write_bytes(content) if content else torch.save({"weight": torch.ones(1)}, path)
    assert main(arguments(root, tmp_path / "m.pt")) == 2
    assert re.search("could not be read as an unfinished training .* delete it", capsys.readouterr().err)
    assert path.exists()


def test_places_that_cannot_be_written(root, tmp_path, tiny, capsys):
    (tmp_path / "file").write_text("kept")
    for out, message in (
        (tmp_path / "file", "exists; delete it to train anew, or give another --out"),
        (tmp_path, "is a folder; give a file in it"),
        (tmp_path / "file" / "m.pt", "can't be written to: "),
    ):
        assert main(arguments(root, out)) == 2
        assert f"error: --out {out} {message}" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--root", "/no/such/folder"], "--root /no/such/folder is not a folder"),
        (["--device", "nowhere"], "--device nowhere can't be used here"),
        (["--batch-size", 19], "--batch-size 19 is more than the 18 training images; give a smaller one"),
        (["--train-images", 19], "--train-images 19 is more than the 18 that there are"),
        (["--test-images", 19], "--test-images 19 is more than the 18 that there are"),
        (
            ["--lr", 1e30],
            r"the loss is nan at step \d; delete .*m\.pt\.partial if it is there, and give a smaller --lr",
        ),
    ],
)
def test_settings_that_cannot_be_used(root, tmp_path, tiny, capsys, more, message):
    assert main(arguments(root, tmp_path / "m.pt", *more)) == 2
    assert re.search(f"error: {message}", capsys.readouterr().err)
    assert not (tmp_path / "m.pt").exists()


@pytest.mark.parametrize(
    "option, value, message",
    [
        *(("--lr", value, "must be a finite number above 0") for value in ("0", "nan", "inf", "-1")),
        *(("--label-smoothing", value, "must be at least 0 and below 1") for value in ("1", "nan", "-0.1")),
        ("--epochs", "0", "must be at least 1, got 0"),
        ("--seed", "-1", "must be at least 0, got -1"),
    ],
)
def test_numbers_that_are_none(option, value, message, capsys):
    with pytest.raises(SystemExit):
        main(["--root", "x", "--out", "y", option, value])
    assert f"{option}: {message}" in capsys.readouterr().err


def test_label_smoothing_is_that_of_the_loss(root, tmp_path, tiny, monkeypatch):
    seen = []

    def watched(output, labels, label_smoothing):
        smooth = torch.full(output.shape, label_smoothing / output.shape[1])
        smooth[torch.arange(len(labels)), labels] += 1 - label_smoothing
        literal = -(smooth * output.log_softmax(1)).sum(1).mean()
        seen.append((label_smoothing, literal, plain(output, labels, label_smoothing=label_smoothing)))
        return seen[-1][-1]

    plain = nn.functional.cross_entropy
    monkeypatch.setattr(nn.functional, "cross_entropy", watched)
    main(arguments(root, tmp_path / "m.pt"))
    main(arguments(root, tmp_path / "n.pt", "--label-smoothing", 0))
    assert [share for share, *_ in seen] == [0.1] * 6 + [0.0] * 6
    for _, literal, loss in seen:
        torch.testing.assert_close(loss, literal)


def test_a_disk_that_fails_is_no_unreadable_image(root, tmp_path, tiny, capsys, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert main(["--root", str(root), "--out", str(tmp_path / "m.pt")]) == 2
    told = capsys.readouterr().err
    assert "can't read or write a file (OSError: " in told and "skipped" not in told


def test_unusable_images_are_named_and_skipped(root, tmp_path, tiny, capsys):
    content = (root / "train/class0/0.png").read_bytes()
    (root / "train/class0/0.png").write_bytes(content[: len(content) // 2])
    Image.new("RGB", (16, 32)).save(root / "train/class1/0.png")
    (root / "test/class2/5.png").write_text("no image")
    assert main(arguments(root, tmp_path / "m.pt")) == 0
    told = capsys.readouterr()
    assert "skipped, unreadable: train/class0/0.png: " in told.err
    assert "skipped, unreadable: train/class1/0.png: 16 x 32 pixels instead of 32 x 32" in told.err
    assert "skipped 2 of 18 train images" in told.err
    assert "skipped 1 of 18 test images" in told.err
    assert "on 17 test images" in told.out


def test_many_unusable_images_are_counted(root, tmp_path, tiny, capsys):
    for path in list(root.glob("test/*/*.png"))[:-1]:
        path.write_text("no image")
    main(arguments(root, tmp_path / "m.pt"))
    told = capsys.readouterr().err
    assert told.count("skipped, unreadable: test/") == 10
    assert "skipped 17 of 18 test images" in told


def test_no_usable_image(root, tmp_path, tiny, capsys):
    for path in root.glob("test/*/*.png"):
        path.write_text("no image")
    assert main(arguments(root, tmp_path / "m.pt")) == 2
    assert "none of the 18 test images can be used; the first: test/class0/0.png: " in capsys.readouterr().err


def noise(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Pictures("noise", tuple(map(str, range(count))), list(pixels), tuple(i % 7 for i in range(count))), pixels


def test_images_and_classes_stay_together():
    pictures, pixels = noise(40)
    whole, some, again, others = (decode(pictures, "train", *given) for given in ((None, 0), (9, 0), (9, 0), (9, 1)))
    assert np.array_equal(whole.pixels.permute(0, 2, 3, 1), pixels)
    assert whole.labels.tolist() == list(pictures.labels)
    places = [int(np.flatnonzero((pixels == p).all((1, 2, 3)))[0]) for p in some.pixels.permute(0, 2, 3, 1).numpy()]
    # Spread over the whole: the first nine of an ImageFolder would be of one class.
    assert len(set(places)) == 9 and max(places) > 20
    assert some.labels.tolist() == [pictures.labels[place] for place in places]
    assert torch.equal(some.pixels, again.pixels) and not torch.equal(some.pixels, others.pixels)


def test_inputs_are_those_of_the_tables(root):
    train, _ = train_cifar10.cifar10_pictures(root)
    decoded = decode(train, "train", None, 0)
    x, y = selection.stack(load("cifar10", root)[0], np.arange(len(train)))
    ours = network_input(decoded.pixels)
    torch.testing.assert_close(ours, x, check_stride=False)
    assert torch.equal(decoded.labels, y)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_augmentation_is_padding_cropping_and_mirroring():
    pixels = torch.from_numpy(noise(300)[1]).permute(0, 3, 1, 2).contiguous()
    ours = augment(pixels, np.random.default_rng(5))
    found = []
    for before, after in zip(pixels, ours, strict=True):
        padded = functional.pad(before, [4])
        matches = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for crop in [functional.crop(padded, top, left, 32, 32)]
            for mirrored, image in enumerate((crop, functional.horizontal_flip(crop)))
            if torch.equal(image, after)
        ]
        assert len(matches) == 1
        found += matches
    tops, lefts, mirrored = (np.array(values) for values in zip(*found, strict=True))
    assert set(tops) == set(lefts) == set(range(9))
    assert 0.4 < mirrored.mean() < 0.6
    assert abs(np.corrcoef(np.stack([tops, lefts, mirrored]))[np.triu_indices(3, 1)]).max() < 0.2
    assert torch.equal(ours, augment(pixels, np.random.default_rng(5)))


@pytest.mark.parametrize(
    "capabilities, precision, reason",
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16", "this CPU has amx_bf16 and avx512_bf16"),
        ({"avx512_f": True}, "float32", "this CPU has neither amx_bf16 nor avx512_bf16"),
    ],
)
def test_precision_follows_the_hardware(monkeypatch, capabilities, precision, reason):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    chosen, why = choose_precision("auto", torch.device("cpu"))
    assert chosen == precision and why.startswith(reason)
    assert choose_precision("bfloat16", torch.device("cpu")) == ("bfloat16", "as asked for")


def test_precision_on_an_older_pytorch(monkeypatch):
    for name in ("get_capabilities", "_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", torch.device("cpu"))[0] == "float32"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == ("bfloat16", "this CPU has avx512_bf16")


@pytest.mark.parametrize("major, precision", [(7, "float32"), (8, "bfloat16")])
def test_precision_of_a_gpu(monkeypatch, major, precision):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("Properties", (), {"major": major}))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    assert choose_precision("auto", torch.device("cuda"))[0] == precision


def test_a_full_precision_ends_the_training(root, tmp_path, tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(train_cifar10, "accuracy", lambda model, images, precision: asked.append(precision) or 0.5)
    main(arguments(root, tmp_path / "m.pt", "--precision", "bfloat16"))
    assert asked == ["bfloat16", "float32"]
    assert {v.dtype for v in torch.load(tmp_path / "m.pt").values()} == {torch.float32, torch.int64}
