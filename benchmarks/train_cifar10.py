"""Trains a network for CIFAR-10 that the tables explain, and writes its state_dict.

    python -m benchmarks.train_cifar10 --root DIR --out FILE [--model resnet18|vit_small]

The images come from DIR as in `benchmarks.data.cifar10`. The state of an unfinished training is kept in FILE.partial:
after an interruption, however hard, the same command goes on from there. On a CPU, with the same number of threads, it
then ends with the same weights, bit for bit, as without the interruption: order and augmentation of the images depend
on nothing but the seed and the step. (On a GPU cuDNN need not repeat itself.)
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from benchmarks.data.cifar10 import CIFAR10, SIDE, cifar10_pictures
from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Inputs
from benchmarks.data.selection import readable, tell_unreadable
from benchmarks.models.checkpoints import ARCHITECTURES, network_32, save_atomically
from benchmarks.models.training import bfloat16_instructions, one_cycle
from benchmarks.run.command_line import add_options, check_writable, exit_code, integer_from, option, positive
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.gpus import own_device
from benchmarks.run.randomness import seeded
from benchmarks.run.store import leftovers
from captum_wg.datasets.fingerprint import differences

# Part of the checkpoint: raise it whenever the training below changes.
TRAINING_VERSION = 3
PADDING = 4
# The largest rate: of SGD for the convolutions, of AdamW for the transformer.
LEARNING_RATES = {"resnet18": 0.4, "vit_small": 1e-3}
# Test images in one forward.
EVALUATED = 256
# What numpy's generators are seeded with beside the seed, so that no two draws share a stream.
ORDER, CROPS, SUBSET = 2, 3, 4


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images in memory: pixels (N, 3, 32, 32) uint8 and classes (N,) int64; and why others were left out."""

    pixels: Tensor
    labels: Tensor
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def checksum(self) -> str:
        """Of all pixels and classes."""
        digest = hashlib.sha256(self.pixels.cpu().numpy().data)
        digest.update(self.labels.cpu().numpy().data)
        return digest.hexdigest()[:16]

    def to(self, device: torch.device) -> Decoded:
        return Decoded(self.pixels.to(device), self.labels.to(device), self.skipped)


def smoothing(text: str) -> float:
    """A `type` of argparse: a number of at least 0 and below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {value}")
    return value


@dataclass(frozen=True)
class Plan:
    """How long and how fast the network is to learn, from which beginning, in which precision."""

    model: str = option("(%(default)s)", choices=tuple(ARCHITECTURES), default="resnet18")
    epochs: int = option("(%(default)s)", type=integer_from(1), default=8)
    batch_size: int = option("images in one step (%(default)s)", type=integer_from(1), default=128)
    lr: float | None = option(
        f"largest learning rate of the one cycle (by the model: {LEARNING_RATES})", type=positive, default=None
    )
    label_smoothing: float = option("of the cross-entropy, 0 for none (%(default)s)", type=smoothing, default=0.1)
    seed: int = option("of everything that is drawn (%(default)s)", type=integer_from(0), default=0)
    precision: str = option(
        "auto: bfloat16 where the hardware computes in it", choices=("auto", "bfloat16", "float32"), default="auto"
    )


def decode(pictures: Pictures, part: str, count: int | None, seed: int) -> Decoded:
    """The images of a part ("train" or "test"), or `count` of them drawn by the seed.

    Raises:
        BenchmarkError: fewer than `count`, or none that can be used.
    """
    places = np.arange(len(pictures))
    if count is not None:
        if count > len(pictures):
            raise BenchmarkError(f"--{part}-images {count} is more than the {len(pictures)} that there are")
        places = np.sort(np.random.default_rng([seed, SUBSET]).permutation(len(pictures))[:count])
    bar = tqdm(places.tolist(), desc=f"{part} images", unit="image", leave=False)
    found = readable(Inputs(pictures, pil_to_tensor), bar)
    skipped = tuple(found.unreadable.values())
    if not found.positions:
        raise BenchmarkError(f"none of the {len(places)} {part} images can be used; the first: {skipped[0]}")
    return Decoded(found.x, found.y, skipped)


def augment(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Each image (B, C, H, W) moved by up to 4 pixels either way, black where it came from, and mirrored or not."""
    count, channels, height, width = pixels.shape
    top, left = random.integers(0, 2 * PADDING + 1, (2, count, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    mirrored = random.integers(0, 2, count) == 1
    columns[mirrored] = columns[mirrored, ::-1]
    padded = nn.functional.pad(pixels, (PADDING,) * 4)
    image, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    places = (image, channel, torch.from_numpy(rows)[:, None, :, None], torch.from_numpy(columns)[:, None, None, :])
    return padded[tuple(place.to(pixels.device) for place in places)]


def network_input(pixels: Tensor) -> Tensor:
    """Pixels as the tables normalise them, channels last."""
    return CIFAR10.from_pixels(pixels / 255).contiguous(memory_format=torch.channels_last)


def choose_precision(asked: str, device: torch.device) -> tuple[str, str]:
    """The precision of --precision, and why it is this one."""
    if asked != "auto":
        return asked, "as asked for"
    if device.type == "cuda":
        native = torch.cuda.get_device_properties(device).major >= 8
        name = torch.cuda.get_device_name(device)
        return ("bfloat16", f"{name} computes in it") if native else ("float32", f"{name} emulates bfloat16")
    if device.type != "cpu":
        return "float32", f"nothing is known of bfloat16 on {device.type}"
    # Autocast works on every CPU, but without these instructions several times slower than float32.
    found = bfloat16_instructions()
    if any(found.values()):
        return "bfloat16", f"this CPU has {' and '.join(name for name, there in found.items() if there)}"
    return "float32", f"this CPU has neither {' nor '.join(found)} and would emulate bfloat16, slowly"


def train(model: nn.Module, images: Decoded, test: Decoded, plan: Plan, checkpoint: Path, seconds: float) -> float:
    """Train the network, from the checkpoint if there is one; returns its accuracy on the test images in float32.

    Args:
        model, images, test: on the same device.
        checkpoint: the file that keeps the unfinished training; it is not written any more when that is done.
        seconds: between two checkpoints.

    Raises:
        BenchmarkError: the checkpoint is of another training; the loss is no number any more.
    """
    device = images.pixels.device
    per_epoch = len(images) // plan.batch_size
    steps = plan.epochs * per_epoch
    settings = {
        **vars(plan),
        "device": device.type,
        "images": len(images),
        "images' checksum": images.checksum(),
        "version": TRAINING_VERSION,
    }
    made_with: dict[str, Any] = {"torch": str(torch.__version__)}
    if device.type == "cpu":
        made_with["threads"] = torch.get_num_threads()
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer, schedule = one_cycle(model, plan.lr, steps, adam=plan.model == "vit_small")
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, total = 0, 0.0
    if (state := _read_checkpoint(checkpoint, settings)) is not None:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        done, total = state["done"], state["total"]
        print(f"going on after step {done} of {steps}, from {checkpoint}", flush=True)
        if difference := differences(state.get("made with", made_with), made_with):
            print(
                f"warning: the training went on elsewhere until then ({difference}); the weights may not be those of "
                "one without interruption, bit for bit",
                file=sys.stderr,
            )
    if device.type == "cpu":
        print(f"{torch.get_num_threads()} threads: bit-identical weights take as many after an interruption")

    saved = time.perf_counter()
    trained, busy = 0, 0.0
    result = math.nan
    with tqdm(total=steps, initial=done, unit="step") as bar:
        while done < steps:
            started = time.perf_counter()
            loss = _step(model, images, plan, done, per_epoch, optimizer)
            schedule.step()
            if not math.isfinite(loss):
                raise BenchmarkError(
                    f"the loss is {loss} at step {done + 1}; delete {checkpoint} if it is there, "
                    f"and give a smaller --lr"
                )
            done, total = done + 1, total + loss
            trained, busy = trained + plan.batch_size, busy + time.perf_counter() - started
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            if done % per_epoch == 0:
                # The last time as the tables will use the network.
                precision = plan.precision if done < steps else "float32"
                result = accuracy(model, test, precision)
                bar.write(
                    f"epoch {done // per_epoch} of {plan.epochs}: loss {total / per_epoch:.3f}, {trained / busy:.0f} "
                    f"images/s, accuracy {result:.2%} on {len(test)} test images"
                )
                total, trained, busy = 0.0, 0, 0.0
            if done < steps and time.perf_counter() - saved >= seconds:
                states = {name: part.state_dict() for name, part in parts.items()}
                progress = {"settings": settings, "made with": made_with, "done": done, "total": total}
                save_atomically({**states, **progress}, checkpoint)
                saved = time.perf_counter()
    return result


def _step(
    model: nn.Module, images: Decoded, plan: Plan, number: int, per_epoch: int, optimizer: torch.optim.Optimizer
) -> float:
    epoch, place = divmod(number, per_epoch)
    order = np.random.default_rng([plan.seed, ORDER, epoch]).permutation(len(images))
    chosen = torch.from_numpy(order[place * plan.batch_size : (place + 1) * plan.batch_size]).to(images.labels.device)
    pixels = augment(images.pixels[chosen], np.random.default_rng([plan.seed, CROPS, number]))
    with _autocast(pixels.device, plan.precision):
        output = model(network_input(pixels))
    labels = images.labels[chosen]
    loss = nn.functional.cross_entropy(output.float(), labels, label_smoothing=plan.label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, images: Decoded, precision: str) -> float:
    """The share of images that the model classifies correctly; the model stays in training mode."""
    model.eval()
    correct = 0
    for start in range(0, len(images), EVALUATED):
        with _autocast(images.pixels.device, precision):
            output = model(network_input(images.pixels[start : start + EVALUATED]))
        correct += int((output.argmax(1) == images.labels[start : start + EVALUATED]).sum())
    model.train()
    return correct / len(images)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager:
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _read_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stored = state["settings"]
    except Exception as error:  # torch.load fails in many ways on a file that is none of its own
        raise BenchmarkError(
            f"{path} could not be read as an unfinished training ({error}); delete it, or give another --out"
        ) from error
    if difference := differences(stored, settings):
        raise BenchmarkError(
            f"{path} is an unfinished training of other settings: {difference}; delete it, or give another --out"
        )
    return state


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_cifar10",
        description="Train a ResNet-18 for 32x32 images on CIFAR-10. After an interruption the same command goes on.",
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder of train/ and test/, or of torchvision's form (downloaded)")
    add("--out", type=Path, required=True, help="file for the state_dict; FILE.partial keeps an unfinished training")
    add_options(parser, Plan)
    add("--device", default="cpu", help="where to train, such as cpu or cuda (%(default)s)")
    add("--train-images", type=integer_from(1), help="train on that many, drawn by the seed, for a quick look (all)")
    add("--test-images", type=integer_from(1), help="measure the accuracy on that many, drawn by the seed (all)")
    add("--checkpoint-seconds", type=integer_from(0), default=60, help="between two checkpoints (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the weights are written, 2 if the settings can't be used."""
    return exit_code(run, parse(arguments))


def run(settings: argparse.Namespace) -> None:
    """Read the images, train, and write the weights."""
    checkpoint = settings.out.with_name(settings.out.name + ".partial")
    _check_out(settings.out, checkpoint)
    device = own_device(settings.device)
    precision, why = choose_precision(settings.precision, device)
    asked = {one.name: getattr(settings, one.name) for one in fields(Plan)}
    rate = LEARNING_RATES[settings.model] if settings.lr is None else settings.lr
    plan = Plan(**{**asked, "precision": precision, "lr": rate})
    print(f"precision {precision}: {why}", flush=True)

    pictures = cifar10_pictures(settings.root, size=(SIDE, SIDE))
    parts = (("train", settings.train_images), ("test", settings.test_images))
    images, test = (
        decode(part, name, count, plan.seed).to(device) for part, (name, count) in zip(pictures, parts, strict=True)
    )
    for name, part in (("train", images), ("test", test)):
        tell_unreadable(part.skipped)
        if part.skipped:
            print(f"skipped {len(part.skipped)} of {len(part) + len(part.skipped)} {name} images", file=sys.stderr)
    if plan.batch_size > len(images):
        raise BenchmarkError(
            f"--batch-size {plan.batch_size} is more than the {len(images)} training images; give a smaller one"
        )

    with seeded("initial weights", plan.seed):
        model = network_32(plan.model, len(pictures[0].class_names))
    result = train(model, images, test, plan, checkpoint, settings.checkpoint_seconds)
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    save_atomically(state, settings.out)
    checkpoint.unlink(missing_ok=True)
    for path in (checkpoint, settings.out):
        for left in path.parent.glob(leftovers(path.name)):
            left.unlink(missing_ok=True)
    print(f"written to {settings.out}: {pictures[1].name}, accuracy {result:.2%} on {len(test)} test images")


def _check_out(path: Path, checkpoint: Path) -> None:
    if path.is_dir():
        raise BenchmarkError(f"--out {path} is a folder; give a file in it")
    if path.exists():
        both = f" it and {checkpoint}" if checkpoint.exists() else " it"
        raise BenchmarkError(f"--out {path} exists; delete{both} to train anew, or give another --out")
    check_writable(path.parent, path)


if __name__ == "__main__":
    sys.exit(main())
