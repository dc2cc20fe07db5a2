"""Everything that decides the results of an experiment, and the command line that is made from it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.datasets import DATA, DATA_SETS
from benchmarks.judges.judge import JudgeSettings
from benchmarks.methods import rows
from benchmarks.methods.method import Method, MethodSettings
from benchmarks.methods.weightings import NEUTRALS, RANKINGS
from benchmarks.run.command_line import (
    add_options,
    check_options,
    integer_from,
    option,
    positive_or_infinite,
    share,
)
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.gpus import EACH
from benchmarks.run.runner import Engine

BASELINES = ("references", "published", "uniform", "gaussian", "blur")

# The modules of the functions that make the results of every table.
CODE = ("benchmarks.experiment.cells",)
# Settings that say where things are or how they are computed, but not what.
_PATHS = ("root", "labels", "instances", "images_dir", "masks", "references", "without")
PLACES = (*_PATHS, "weights", "device", "code", "made_of")
# Settings that say how a run is carried out: the tables do not depend on them, and don't name them.
_HOW = ("out", "chunk", "discard_maps", "cache", *(field.name for field in dataclasses.fields(Engine)))
# Options that say something with one value of another option only.
_USELESS = (
    ("labels", "data", "imagenet"),
    ("instances", "data", "coco"),
    ("images_dir", "data", "coco"),
    ("references", "baselines", "references"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides the results, but for how many images are taken; what an option says it is, it is.

    Attributes:
        model, weights, resize, crop: of `networks.load_network`.
        masks: of COCO, the photographs that count are the same with a folder of masks.
        references: photographs of the data itself that are drawn are not explained, whatever their names.
        baselines: "published" is white, black and uniform noise.
        ranking: of D_alpha and of the judges.
        together: how many images are explained and judged in one call. Of more than one, draws and rounding depend on
            which images these are: always the first 8, the next 8 and so on.
        curves: whether the results hold the judges' curves.
        code: the modules whose functions make the results.
        made_of: what `Bench.described` says of it, as JSON: the files at the same places may be others another time, or
            for another worker. "": not known yet.

    Raises:
        ValueError: a value that its option can't have.
    """

    model: str
    data: str = option("what the photographs are", choices=DATA, required=True)
    root: str | None = option("their folder: train/ and test/, class folders or files, images/ of COCO", default=None)
    labels: str | None = option(
        "imagenet: csv with the columns file and class_index, instead of class folders", default=None
    )
    instances: str | None = option("coco: the annotations (ROOT/instances.json)", default=None)
    images_dir: str | None = option("coco: the photographs (ROOT/images)", default=None)
    masks: str | None = option("folder of masks (NAME.png for a photograph NAME.jpg), for the overlap", default=None)
    weights: str | None = None
    resize: int | None = option("shorter side, other than the weights ask for", default=None, type=integer_from(1))
    crop: int | None = option(
        "side of the central square, other than the weights ask for", default=None, type=integer_from(1)
    )
    without: str | None = option(
        "csv whose column image names photographs to leave out: a run's scores.csv", default=None, metavar="FILE"
    )
    baselines: str = option("(%(default)s)", default="references", choices=BASELINES)
    references: str | None = option(
        "folder of reference images (training images, or photographs of the data themselves)", default=None
    )
    n_baselines: int = option("(%(default)s)", default=10, type=integer_from(1))
    n_steps: int = option("points on each path (%(default)s)", default=50, type=integer_from(1))
    alpha: float = option("of D_alpha (%(default)s)", default=0.5, type=share)
    neutral: str = option("of D_alpha (%(default)s)", default="corners", choices=NEUTRALS)
    ranking: str = option("of pixels (%(default)s)", default="signed", choices=RANKINGS)
    levels: int = option("of the judges' curves (%(default)s)", default=100, type=integer_from(1))
    radius: float | None = option(
        "local radius of the local measures in normalised units, or inf (a tenth of the median distance)",
        default=None,
        type=positive_or_infinite,
    )
    fresh_draws: bool = option("local measures draw new points for each explanation", default=False)
    seed: int = option("of images, references and all random draws (%(default)s)", default=0, type=integer_from(0))
    batch: int | None = option("images in one forward (%(default)s)", default=32, type=integer_from(1))
    device: str = option(f"cpu, cuda, cuda:0 or {EACH}, a GPU for each worker (%(default)s)", default="cpu")
    together: int = 1
    curves: bool = False
    code: tuple[str, ...] = CODE
    made_of: str = ""

    def __post_init__(self) -> None:
        check_options(self)

    def method(self, name: str) -> Method:
        """The row of a name; see `benchmarks.methods.rows.method`."""
        return rows.method(name, self.for_methods)

    def methods(self, names: Sequence[str]) -> list[Method]:
        """The rows of names, and of groups of rows, each once."""
        return rows.choose(names, self.for_methods)

    @property
    def for_methods(self) -> MethodSettings:
        """What the rows are made with."""
        return MethodSettings(**{one.name: getattr(self, one.name) for one in dataclasses.fields(MethodSettings)})

    def for_judges(self, classes: int = 1000) -> JudgeSettings:
        """What the metrics are made with."""
        return JudgeSettings(self.levels, self.ranking, self.batch, classes)

    def known(self, described: Mapping[str, Any]) -> Experiment:
        """The experiment with what `Bench.described` says of it."""
        return dataclasses.replace(self, made_of=json.dumps(described, sort_keys=True))


def options(
    module: str, description: str, out: str, without: Collection[str] = (), images: int = 100, **defaults: Any
) -> argparse.ArgumentParser:
    """A parser of everything that decides an `Experiment`, of --images, and of where the work is done.

    Args:
        module: the command, in benchmarks.
        out: the default of --out.
        without: options that say nothing in this command, or that it has in a form of its own.
        images: the default of --images.
        defaults: other than `Experiment`'s.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description)
    add = parser.add_argument
    if "--models" not in without:
        add("--models", nargs="+", required=True, metavar="NAME", help="torchvision's names, efficientnet_lite0, ...")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="state_dicts instead of the default weights, of networks that take what torchvision's do",
    )
    add("--images", type=integer_from(0), default=images, help="correctly classified images; 0: all (%(default)s)")
    add_options(parser, Experiment, without, **defaults)
    add("--out", type=Path, default=Path(out), help="folder of tables and results (%(default)s)")
    add_options(parser, Engine)
    add("--chunk", type=integer_from(1), default=8, help="images in one cell (%(default)s)")
    add(
        "--discard-maps",
        action="store_true",
        help="delete all maps in --out but those of figure 1 as soon as they are judged; later rows or judges make "
        "them again. Nothing else may use this --out meanwhile",
    )
    return parser


def has_masks(settings: argparse.Namespace) -> bool:
    """Whether it is known where the explained class is in the photographs."""
    return DATA_SETS[settings.data].has_masks or settings.masks is not None


def command(settings: argparse.Namespace, module: str) -> str:
    """The command that gives the same tables, with whatever --out and workers."""
    words = ["python", "-m", f"benchmarks.{module}"]
    for name, value in vars(settings).items():
        # Without weights the option is left out; an empty list of anything else says something.
        if name not in _HOW and value is not None and value is not False and (value != [] or name != "weights"):
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def experiments(settings: argparse.Namespace, **more: Any) -> list[Experiment]:
    """One for each model; more: of `Experiment`, that the command line does not say.

    Raises:
        BenchmarkError: weights for a model that is not asked for, a model named twice, an option that the data or
            the baselines have no use for.
    """
    for name, of, needed in _USELESS:
        if getattr(settings, name, None) is not None and getattr(settings, of, needed) != needed:
            raise BenchmarkError(
                f"--{name.replace('_', '-')} is of --{of} {needed} alone, but --{of} is {getattr(settings, of)}; "
                "leave one of them out"
            )
    weights: dict[str, str] = {}
    for text in settings.weights:
        name, equals, file = text.partition("=")
        if not equals and len(settings.models) == 1:
            name, file = settings.models[0], text
        if name not in settings.models or not file:
            raise BenchmarkError(
                f"--weights {text}: give NAME=FILE with a NAME of --models ({', '.join(settings.models)})"
            )
        weights[name] = file
    if len(set(settings.models)) < len(settings.models):
        raise BenchmarkError(f"--models names a model twice: {', '.join(settings.models)}")
    names = [field.name for field in dataclasses.fields(Experiment) if field.name not in ("model", "weights")]
    given = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    given |= {name: _full(given.get(name)) for name in _PATHS} | more
    return [Experiment(model=model, weights=_full(weights.get(model)), **given) for model in settings.models]


def _full(path: str | None) -> str | None:
    # Workers may have another working directory.
    return None if path is None else str(Path(path).absolute())
