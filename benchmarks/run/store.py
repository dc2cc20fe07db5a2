"""Results on disk: each is written once, whole or not at all, with everything needed to make it again.

    folder/settings.json               what all results of the folder were made with
    folder/KIND/.../NAME.parquet       one result, its settings and its key once more in the file's own metadata

A store holds results of one set of settings: opened with others it refuses and says what differs. A process that is
killed leaves at most a temporary file, which no reader takes for a result. Each file holds a checksum of itself; one
that was damaged since is no result: it is set aside under another name and made anew.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import io
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.run.errors import BenchmarkError

Key = tuple[str, ...]

SETTINGS = "settings.json"
_METADATA = b"made_with"
_CHECKSUM = b"sha256="
_BLANK = _CHECKSUM + b"0" * 64
_SUM = re.compile(_CHECKSUM + b"([0-9a-f]{64})")
_DAMAGED = ".damaged"
_TEMPORARY = ".part"
# A temporary file is written within seconds; one that has not changed for this long belongs to nobody.
_ABANDONED_SECONDS = 3600.0
# What to do about a folder of other results.
_INSTEAD = "give another --out, or delete this folder"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]*")


@dataclass(frozen=True)
class Store:
    """The results in a folder. Small and picklable: a worker is handed it and writes its own results.

    Make it by `open_store`, which checks the folder.

    Attributes:
        folder: where the results are; for workers on several machines, on a file system that they share.
        settings: what all the results are made with, as JSON.
    """

    folder: Path
    settings: str

    def has(self, key: Key) -> bool:
        """Whether the result is there, whole. A damaged one is named, and set aside."""
        path = self._path(key)
        if not path.is_file():
            return False
        try:
            _intact(path, path.stat().st_mtime_ns)
        except Damaged as error:
            aside = path.with_name(path.name + _DAMAGED)
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                os.replace(path, aside)
            print(f"{error}: it is set aside as {aside.name} and made anew", file=sys.stderr)
            return False
        return True

    def write(self, key: Key, table: pd.DataFrame) -> None:
        """Store a table under a key. A result that is there already stays as it is.

        Raises:
            BenchmarkError: it can't be written, such as on a full disk; nothing of it is left then.
            ValueError: the key can't be a file name.
        """
        path = self._path(key)
        if self.has(key):
            return
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        made_with = {"key": list(key), "settings": json.loads(self.settings)}
        arrow = arrow.replace_schema_metadata(
            {
                **(arrow.schema.metadata or {}),
                _METADATA: json.dumps(made_with, sort_keys=True).encode(),
                _CHECKSUM.rstrip(b"="): _BLANK,
            }
        )
        buffer = io.BytesIO()
        pq.write_table(arrow, buffer, compression="zstd", use_dictionary=False, write_page_checksum=True)
        blank = buffer.getvalue()
        write_atomically(path, blank.replace(_BLANK, _CHECKSUM + hashlib.sha256(blank).hexdigest().encode()))

    def keys(self, kind: str) -> list[Key]:
        """Of all tables whose key begins so."""
        paths = sorted((self.folder / kind).rglob("*.parquet"))
        return [(*path.parent.relative_to(self.folder).parts, path.stem) for path in paths]

    def delete(self, key: Key) -> None:
        """Delete the table stored under a key, if there is one.

        Raises:
            BenchmarkError: it can't be deleted.
        """
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise BenchmarkError(f"{path} can't be deleted: {error}") from error

    def read(self, key: Key, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The table stored under a key, or some columns of it.

        Raises:
            BenchmarkError: it is missing, damaged, unreadable, or was made with other settings.
        """
        path = self._path(key)
        try:
            content = pa.BufferReader(_checked(path))
            arrow = pq.read_table(content, columns=columns and list(columns), use_threads=False)
        except FileNotFoundError as error:
            raise BenchmarkError(f"{path} is missing; run the command again to make it") from error
        except Damaged as error:
            raise BenchmarkError(f"{error}; run the command again to make it anew") from error
        except (OSError, pa.ArrowException) as error:
            raise BenchmarkError(f"{path} can't be read ({error}); delete it and run the command again") from error
        made_with = json.loads((arrow.schema.metadata or {}).get(_METADATA, b"{}"))
        if difference := differences(made_with.get("settings", {}), json.loads(self.settings)):
            raise BenchmarkError(f"{path} was made with other settings: {difference}; delete it, or give another --out")
        return arrow.to_pandas()

    def read_all(self, keys: Sequence[Key]) -> pd.DataFrame:
        """The tables of several keys, one below the other in the order of the keys."""
        tables = [self.read(key) for key in keys]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def check_visible(self) -> None:
        """That this process sees the folder that the store was opened in.

        Raises:
            BenchmarkError: it does not.
        """
        if not (self.folder / SETTINGS).is_file():
            raise BenchmarkError(
                f"a worker does not see the results folder {self.folder}; give --out as a full path on a file system "
                f"that all workers share"
            )

    def _path(self, key: Key) -> Path:
        if not key or not all(_NAME.fullmatch(part) for part in key):
            raise ValueError(
                f"a key must be a tuple of names of letters, digits and _ . , = + -, none starting with a mark; "
                f"got {key!r}"
            )
        return self.folder.joinpath(*key[:-1], f"{key[-1]}.parquet")


def open_store(folder: str | Path, settings: Mapping[str, Any]) -> Store:
    """The store in a folder, which is made if it is missing; an existing one must be of the same settings.

    Args:
        settings: whatever decides the results, as JSON can hold it; it must not depend on how a run is carried out.

    Raises:
        BenchmarkError: the folder can't be written to, holds results of other settings (the message names the
            difference), or something else than results.
    """
    folder = Path(folder).absolute()
    text = json.dumps(settings, sort_keys=True, indent=1)
    path = folder / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = path.read_text() if path.is_file() else None
        if there is None and any(folder.glob("**/*.parquet")):
            raise BenchmarkError(f"{folder} holds results without {SETTINGS}; {_INSTEAD}")
    except OSError as error:
        raise BenchmarkError(f"the results folder {folder} can't be used: {error}") from error
    if there is None:
        write_atomically(path, text.encode())
    else:
        try:
            stored = json.loads(there)
        except ValueError as error:
            raise BenchmarkError(f"{path} is no JSON ({error}); {_INSTEAD}") from error
        if difference := differences(stored, json.loads(text)):
            kind = (
                "versions of the code or the packages"
                if _only_versions_differ(stored, json.loads(text))
                else "settings"
            )
            raise BenchmarkError(f"{folder} holds results of other {kind}: {difference}; {_INSTEAD}")
    remove_abandoned(folder, f"**/*{_TEMPORARY}")
    return Store(folder, text)


class Damaged(Exception):
    """A stored file is not what was written."""


def _checked(path: Path) -> bytes:
    """What a file holds, if that is what was written.

    Raises:
        Damaged: it is not.
    """
    content = path.read_bytes()
    found = _SUM.search(content)
    blank = b"" if found is None else content[: found.start()] + _BLANK + content[found.end() :]
    if found is None or hashlib.sha256(blank).hexdigest().encode() != found[1]:
        raise Damaged(f"{path} is damaged")
    return content


@functools.lru_cache(maxsize=1 << 20)
def _intact(path: Path, changed: int) -> None:
    """That a file, as it was at a time, holds what was written; looked at once."""
    _checked(path)


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two settings, such as "seed: 0 there, 1 here"; empty if nothing does."""
    a, b = _flat(stored), _flat(wanted)
    missing = object()
    return "; ".join(
        f"{name}: {_short(a, name)} there, {_short(b, name)} here"
        for name in sorted({*a, *b})
        if a.get(name, missing) != b.get(name, missing)
    )


def check_worker(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """That a worker has what the command has, whose settings (`open_store`) are stored with its results.

    Raises:
        BenchmarkError: it has not; the message names the difference.
    """
    if difference := differences(json.loads(json.dumps(found)), wanted):
        raise BenchmarkError(
            f"a worker does not have what the command has: {difference}; see that all workers have the same code, "
            f"packages and data, and start them anew if they are older than these"
        )


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that is there whole at the end or not at all, whatever happens meanwhile.

    Raises:
        BenchmarkError: it can't be written; nothing is left of it.
    """
    temporary = path.with_name(f"{path.name}{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other than tempfile's, readable for whom the user's umask allows it.
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else str(error)
        raise BenchmarkError(
            f"{path} could not be written: {what}. Nothing half-written is left; "
            f"{'make room' if full else 'put that right'} and run the same command again to go on"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # such as a parent that is a file; the first error says so
            temporary.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


def leftovers(name: str) -> str:
    """A pattern for glob: the temporary files of a file, which `atomic_file` leaves if its process is killed."""
    return f"{glob.escape(name)}{'?' * 8}{_TEMPORARY}"


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Delete the temporary files of a pattern that killed processes left behind."""
    for part in folder.glob(pattern):
        try:
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()
        except OSError:
            continue  # another process was faster


def _only_versions_differ(stored: Any, wanted: Mapping[str, Any]) -> bool:
    return isinstance(stored, Mapping) and {**stored, "versions": None} == {**wanted, "versions": None}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}" if name else key).items()}
    return {name: value}


def _short(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "nothing"
    text = json.dumps(values[name])
    return text if len(text) <= 80 else text[:77] + "..."
