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
from captum_wg.datasets.fingerprint import differences, differing

Key = tuple[str, ...]

SETTINGS = "settings.json"
_METADATA = b"made_with"
_BLANK = b"sha256=" + b"0" * 64
_SUM = re.compile(b"sha256=([0-9a-f]{64})")
_TEMPORARY = ".part"
# A temporary file is written within seconds; one that has not changed for this long belongs to nobody.
_ABANDONED_SECONDS = 3600.0
# What to do about a folder of other results.
_INSTEAD = "give another --out, or delete this folder"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]*")


@dataclass(frozen=True)
class Store:
    """The results in a folder, made by `open_store`. Picklable: a worker is handed it and writes its own results.

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
        if not (whole := _is_whole(path, path.stat().st_mtime_ns)):
            aside = path.with_name(f"{path.name}.damaged")
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                os.replace(path, aside)
            print(f"{path} is damaged: it is set aside as {aside.name} and made anew", file=sys.stderr)
        return whole

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
        made_with = json.dumps({"key": list(key), "settings": json.loads(self.settings)}, sort_keys=True)
        own = {_METADATA: made_with.encode(), b"sha256": _BLANK}
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **own})
        buffer = io.BytesIO()
        pq.write_table(arrow, buffer, compression="zstd", use_dictionary=False, write_page_checksum=True)
        blank = buffer.getvalue()
        write_atomically(path, blank.replace(_BLANK, b"sha256=" + hashlib.sha256(blank).hexdigest().encode()))

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

    def read(self, key: Key) -> pd.DataFrame:
        """The table stored under a key.

        Raises:
            BenchmarkError: it is missing, damaged, unreadable, or was made with other settings.
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
            if not _own_checksum(content):
                raise BenchmarkError(f"{path} is damaged; run the command again to make it anew")
            arrow = pq.read_table(pa.BufferReader(content), use_threads=False)
        except FileNotFoundError as error:
            raise BenchmarkError(f"{path} is missing; run the command again to make it") from error
        except (OSError, pa.ArrowException) as error:
            raise BenchmarkError(f"{path} can't be read ({error}); delete it and run the command again") from error
        made_with = json.loads((arrow.schema.metadata or {}).get(_METADATA, b"{}"))
        if difference := differences(made_with.get("settings", {}), json.loads(self.settings)):
            raise BenchmarkError(f"{path} was made with other settings: {difference}; delete it, or give another --out")
        return arrow.to_pandas()

    def read_all(self, keys: Sequence[Key]) -> pd.DataFrame:
        """The tables of several keys, one below the other in the order of the keys."""
        return pd.concat([self.read(key) for key in keys], ignore_index=True)

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
        if not path.is_file():
            if any(folder.glob("**/*.parquet")):
                raise BenchmarkError(f"{folder} holds results without {SETTINGS}; {_INSTEAD}")
            write_atomically(path, text.encode())
        found = differing(json.loads(path.read_text()), json.loads(text))
    except OSError as error:
        raise BenchmarkError(f"the results folder {folder} can't be used: {error}") from error
    except ValueError as error:
        raise BenchmarkError(f"{path} is no JSON ({error}); {_INSTEAD}") from error
    if found:
        versions = all(name.startswith("versions.") for name in found)
        kind = "versions of the code or the packages" if versions else "settings"
        raise BenchmarkError(f"{folder} holds results of other {kind}: {'; '.join(found.values())}; {_INSTEAD}")
    remove_abandoned(folder, f"**/*{_TEMPORARY}")
    return Store(folder, text)


def _own_checksum(content: bytes) -> bool:
    """Whether a file holds the checksum of itself, taken with zeros in its place."""
    found = _SUM.search(content)
    return found is not None and found[1] == hashlib.sha256(content.replace(found[0], _BLANK, 1)).hexdigest().encode()


@functools.lru_cache(maxsize=1 << 20)
def _is_whole(path: Path, changed: int) -> bool:
    """Whether a file, as it was at a time, holds what was written; looked at once."""
    return _own_checksum(path.read_bytes())


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
        what, remedy = ("the disk is full", "make room") if full else (str(error), "put that right")
        raise BenchmarkError(
            f"{path} could not be written: {what}. Nothing half-written is left; {remedy} and run the same command "
            "again to go on"
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
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()
