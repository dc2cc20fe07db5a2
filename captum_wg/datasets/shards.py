"""Maps on disk: shards of a fixed number of examples, each written once, whole or not at all.

    folder/settings.json          what all maps of the folder are made with
    folder/000000.safetensors     the columns of the first examples, by name ("attributions", "delta", ...)
    folder/index.json             how many examples there are and which files hold them: there when all shards are

A process that is killed leaves at most a temporary file, which no reader takes for a shard.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from captum_wg.attribution_base import AttributionResult
from captum_wg.datasets.columns import Columns, nested
from captum_wg.datasets.fingerprint import differences, digest

_SETTINGS, _INDEX = "settings.json", "index.json"
_MADE_WITH = "captum_wg.settings"
_TEMPORARY = ".part"
# A temporary file is written within seconds; one that has not changed for this long belongs to nobody.
_ABANDONED_SECONDS = 3600.0
# What results are made of beside the attributions, in the order of `AttributionResult`.
EXTRAS = ("delta", "weights", "steps")


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards of the same settings. Small and picklable; make it by `open_folder`, which checks the folder.

    Attributes:
        folder: on several machines, on a file system that they share.
        made_with: a digest of the settings, which every shard holds.
    """

    folder: Path
    made_with: str

    def has(self, number: int) -> bool:
        """Whether a shard is there, whole and of these settings."""
        safetensors = import_safetensors()
        try:
            with safetensors.safe_open(self.folder / _name(number), framework="pt") as file:
                return bool((file.metadata() or {}).get(_MADE_WITH) == self.made_with)
        except (FileNotFoundError, safetensors.SafetensorError):
            return False

    def write(self, number: int, columns: Columns) -> None:
        """Store a shard.

        Raises:
            OSError: it can't be written, such as on a full disk; nothing of it is left then.
        """
        # One entry, as safetensors stores several in no fixed order.
        content = import_safetensors().torch.save(columns, metadata={_MADE_WITH: self.made_with})
        write_atomically(self.folder / _name(number), content)

    def examples(self) -> int | None:
        """How many examples the folder holds, if it is complete."""
        path = self.folder / _INDEX
        return int(json.loads(path.read_text())["examples"]) if path.is_file() else None

    def finish(self, examples: int, shard_size: int) -> None:
        """Write the index of shards that are all there."""
        files = [_name(number) for number in range(-(-examples // shard_size))]
        index = {"examples": examples, "shard_size": shard_size, "shards": files}
        if self.examples() != examples:
            write_atomically(self.folder / _INDEX, json.dumps(index, indent=1).encode())


def open_folder(out: str | Path, settings: Mapping[str, Any]) -> ShardFolder:
    """The shards in a folder, which is made if it is missing; an existing one must be of the same settings.

    Raises:
        ValueError: the folder holds maps of other settings (the message names the difference), or something else.
    """
    folder = Path(out).absolute()
    path = folder / _SETTINGS
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out={folder} is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        if others := sorted(p.name for p in folder.iterdir() if not p.name.endswith(_TEMPORARY)):
            raise ValueError(f"out={folder} holds {others[:3]} but no {_SETTINGS}; give another or an empty folder")
        write_atomically(path, json.dumps(settings, indent=1).encode())
    stored = json.loads(path.read_text())
    wanted = json.loads(json.dumps(settings))
    if difference := differences(stored, wanted):
        raise ValueError(
            f"out={folder} holds maps of other settings: {difference}; give another out, delete this folder, or take "
            "the settings that are there"
        )
    for part in folder.glob(f"*{_TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()
    return ShardFolder(folder, digest(wanted))


class AttributionDataset(Dataset[Any]):
    """The attributions that `attribute_dataset` stored, as a torch Dataset in the order of the loader's examples.

    An item is one example's map, in the structure that the method returned (a Tensor, a tuple, a dictionary of
    measures); with delta, weights or steps, an `AttributionResult` of these. Nothing is kept in memory or open, so that
    workers of a DataLoader can share it. Beside the examples: `torch.utils.data.StackDataset(examples, maps)`.

    Args:
        folder: as it was given as `out`.

    Attributes:
        folder: its full path.
        settings: what the maps were made with.

    Raises:
        ValueError: there are no maps, or not yet all.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        if not (self.folder / _INDEX).is_file():
            begun = (self.folder / _SETTINGS).is_file()
            raise ValueError(
                f"folder={self.folder} holds {'only some of the' if begun else 'no'} maps; call attribute_dataset with "
                f"out={str(folder)!r} to {'make the others' if begun else 'make them'}"
            )
        index = json.loads((self.folder / _INDEX).read_text())
        self.settings: dict[str, Any] = json.loads((self.folder / _SETTINGS).read_text())
        self._examples, self._shard_size = int(index["examples"]), int(index["shard_size"])
        self._files: list[str] = index["shards"]

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> Any:
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"index must be in [-{len(self)}, {len(self)}), got {index}")
        number, row = divmod(position, self._shard_size)
        path = self.folder / self._files[number]
        safetensors = import_safetensors()
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                columns: dict[str, Tensor] = {name: file.get_slice(name)[row : row + 1][0] for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{path} is missing or damaged ({error}); call attribute_dataset again, which makes it anew"
            ) from error
        return as_result(nested(columns))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def as_result(parts: Mapping[str, Any]) -> Any:
    """ "attributions" alone, or with the others in an `AttributionResult`."""
    extras = {name: parts[name] for name in EXTRAS if name in parts}
    return AttributionResult(parts["attributions"], **extras) if extras else parts["attributions"]


def import_safetensors() -> Any:
    """The package, which only data sets need.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("maps of data sets are stored by safetensors: pip install 'captum-wg[datasets]'") from error
    return safetensors


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        # Other than tempfile's, readable for whom the user's umask allows it.
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _name(number: int) -> str:
    return f"{number:06d}.safetensors"
