"""Networks by name or file, with what they want of a photograph and what their classes are called."""

from __future__ import annotations

import difflib
import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_wg.command_line.efficientnet_lite import efficientnet_lite0
from captum_wg.command_line.errors import UsageError
from captum_wg.command_line.photographs import Preparation

DEFAULT = "efficientnet_lite0"


@dataclass(frozen=True)
class Network:
    """A classifier of images.

    Attributes:
        name: as it was asked for.
        model: (B, 3, H, W) -> (B, classes), in evaluation mode, its parameters without gradients.
        classes: their names; empty: not known.
    """

    name: str
    model: nn.Module
    preparation: Preparation = field(default_factory=Preparation)
    classes: tuple[str, ...] = ()

    def class_name(self, number: int) -> str:
        return f"{self.classes[number]} ({number})" if number < len(self.classes) else f"class {number}"

    def class_number(self, text: str) -> int:
        """The class that a user means: a number, a name, or a part that only one name has.

        Raises:
            UsageError: none, or several.
        """
        if text.isdecimal():
            if self.classes and int(text) >= len(self.classes):
                raise UsageError(f"--target {text}: {self.name} has the classes 0 to {len(self.classes) - 1}")
            return int(text)
        if not self.classes:
            raise UsageError(f"--target {text!r}: the classes of {self.name} have no names; give a number")
        wanted, names = text.lower(), [name.lower() for name in self.classes]
        found = [i for i, name in enumerate(names) if name == wanted] or [
            i for i, name in enumerate(names) if wanted in name
        ]
        if len(found) != 1:
            near = found or [names.index(name) for name in difflib.get_close_matches(wanted, names, 5)]
            some = ", ".join(map(self.class_name, near[:8])) + (", ..." if len(near) > 8 else "")
            raise UsageError(
                f"--target {text!r}: {'several classes have' if found else 'no class has'} this in their name; give a "
                "number or a longer name" + (f", such as one of: {some}" if some else "")
            )
        return found[0]

    @property
    def has_modules(self) -> bool:
        """Whether its modules can be hooked: not those of a saved program."""
        return not isinstance(self.model, Program | torch.jit.ScriptModule)

    def layer(self, name: str) -> nn.Module:
        """The module that --layer names.

        Raises:
            UsageError: there is none.
        """
        names = [found for found, _ in self.model.named_modules() if found]
        if name not in names:
            near = difflib.get_close_matches(name, names, 5) or names[-5:]
            raise UsageError(f"--layer {name!r}: {self.name} has no such module; some that it has: {', '.join(near)}")
        return self.model.get_submodule(name)


def load(name: str = DEFAULT, weights: Path | None = None) -> Network:
    """The network of a name, as `captum-wg models` lists them, or in a file.

    Args:
        weights: a state_dict for a network of torchvision or timm; None: those of its authors, if they are at hand.

    Raises:
        UsageError: no such network, its package or weights are not here, or the file can't be read.
    """
    source, _, rest = name.rpartition(":")
    if Path(name).is_file() or Path(name).suffix in (".pt", ".pt2", ".pth"):
        network = _program(Path(name))
    elif name == DEFAULT:
        network = Network(name, efficientnet_lite0(), Preparation(interpolation="bicubic"), imagenet_classes())
    elif source == "timm" or (source == "" and rest not in torchvision_names()):
        return prepared(_timm(name, rest, weights))
    elif source in ("", "torchvision"):
        return prepared(_torchvision(name, rest, weights))
    else:
        raise UsageError(f"--model {name!r}: {source!r} is no source of networks; give torchvision:NAME or timm:NAME")
    if weights is not None:
        raise UsageError(f"--weights is for networks of torchvision and timm; {name} has its own, leave it out")
    return prepared(network)


def imagenet_classes() -> tuple[str, ...]:
    """ImageNet's 1000, as torchvision has them; none without torchvision."""
    try:
        from torchvision.models import MobileNet_V2_Weights
    except ImportError:
        return ()
    return tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])


def torchvision_names() -> list[str]:
    """The classifiers that torchvision has."""
    try:
        from torchvision import models
    except ImportError:
        return []
    return list(models.list_models(module=models))


def weights_at_hand(name: str) -> Path | None:
    """The file of a torchvision network's default weights, in the folder where torch keeps what it downloads."""
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    return path if path.is_file() else None


def _torchvision(asked: str, name: str, given: Path | None) -> Network:
    if name not in torchvision_names():
        near = difflib.get_close_matches(name, torchvision_names(), 5)
        raise UsageError(
            f"--model {asked!r}: torchvision "
            + (
                f"has no classifier of that name; near: {', '.join(near)}"
                if torchvision_names()
                else "is not installed"
            )
        )
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    path = given or weights_at_hand(name)
    if path is None:
        raise UsageError(
            f"--model {asked!r}: its weights are not on this machine, and nothing is downloaded unasked; fetch them "
            f"once with\n    python -c \"import torchvision; torchvision.models.get_model('{name}', "
            "weights='DEFAULT')\"\nor give --weights FILE"
        )
    model = models.get_model(name, weights=None)
    _put(model, path)
    ways = weights.transforms()
    preparation = Preparation(
        ways.resize_size[0], ways.crop_size[0], ways.interpolation.value, tuple(ways.mean), tuple(ways.std)
    )
    return Network(asked, model, preparation, tuple(weights.meta["categories"]))


def _timm(asked: str, name: str, given: Path | None) -> Network:
    if importlib.util.find_spec("timm") is None:
        near = difflib.get_close_matches(name, [DEFAULT, *torchvision_names()], 3)
        raise UsageError(
            f"--model {asked!r}: no such file, no network of torchvision"
            + (f" (near: {', '.join(near)})" if near else "")
            + ", and timm is not installed (pip install timm); see captum-wg models"
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # weights come from its cache: nothing is downloaded unasked
    import timm

    try:
        model = timm.create_model(name, pretrained=given is None)
    except Exception as error:  # it raises what its hub raises
        raise UsageError(
            f"--model {asked!r}: timm has no such network, or its weights are not on this machine "
            f"({_line(error)}); fetch them once with\n    python -c \"import timm; timm.create_model('{name}', "
            'pretrained=True)"\nor give --weights FILE'
        ) from error
    if given is not None:
        _put(model, given)
    wanted = timm.data.resolve_model_data_config(model)
    side = wanted["input_size"][-1]
    preparation = Preparation(
        int(side / wanted["crop_pct"]), side, wanted["interpolation"], tuple(wanted["mean"]), tuple(wanted["std"])
    )
    classes = imagenet_classes()
    return Network(asked, model, preparation, classes if model.num_classes == len(classes) else ())


def _put(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load fails in many ways on a file that is none of its own
        raise UsageError(f"--weights {path} is no state_dict of this network: {_line(error)}") from error


def _program(path: Path) -> Network:
    """A torch.export program (.pt2), or a TorchScript file."""
    if not path.is_file():
        raise UsageError(f"--model {path}: no such file")
    exported = path.suffix == ".pt2"
    read: Callable[[str], Any] = torch.export.load if exported else torch.jit.load
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that TorchScript is old
            loaded = read(str(path))
    except Exception as error:
        kind = "torch.export program" if exported else "TorchScript file"
        raise UsageError(
            f"--model {path} could not be read as a {kind}: {_line(error)}; write one with "
            + ("torch.export.save" if exported else "torch.jit.save, or torch.export.save to a file *.pt2")
        ) from error
    if not exported:
        return Network(str(path), loaded.eval())
    shape = _input_shape(loaded)
    side = shape[-1]
    model = Program(loaded.module(), shape[0] if isinstance(shape[0], int) else None)
    return Network(str(path), model, for_side(side) if isinstance(side, int) else Preparation())


def for_side(side: int) -> Preparation:
    """The usual preparation for squares of another side."""
    return Preparation(round(side * 256 / 224), side)


def _input_shape(program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """(B, C, H, W) of its input, whole numbers where the program allows no other."""
    names = set(program.graph_signature.user_inputs)
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in names]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise UsageError(f"--model must take one input, images (B, 3, H, W); this one's inputs have shapes {shapes}")
    return shapes[0]


class Program(nn.Module):
    """A torch.export program for any number of rows.

    Args:
        rows: that it takes, no more and no fewer: what comes is cut into such parts, the last one filled up; None: any.
    """

    def __init__(self, program: nn.Module, rows: int | None):
        super().__init__()
        self.program = program
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is None:
            return self.program(x)  # type: ignore[no-any-return]
        missing = -len(x) % self.rows
        parts = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]).split(self.rows)  # type: ignore[no-untyped-call]
        return torch.cat([self.program(part) for part in parts])[: len(x)]

    def train(self, mode: bool = True) -> Program:
        return self  # a program has no modes


def prepared(network: Network) -> Network:
    """In evaluation mode, without gradients of parameters, nothing overwritten in place."""
    for parameter in network.model.parameters():
        parameter.requires_grad_(False)
    if network.has_modules:
        for module in network.model.eval().modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]  # hooks can't have their inputs overwritten
    return network


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
