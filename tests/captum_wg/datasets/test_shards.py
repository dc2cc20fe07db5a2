"""Shards on disk: whole or not there, and read back."""

from __future__ import annotations

import os
import pickle
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, StackDataset, TensorDataset

from captum_wg import AttributionDataset, AttributionResult
from captum_wg.datasets.shards import ShardFolder, open_folder, write_atomically

SETTINGS = {"seed": 0, "steps": {"n": 3}}
MAPS = torch.arange(20.0).reshape(10, 2)


@pytest.fixture
def stored(tmp_path):
    folder = open_folder(tmp_path / "maps", SETTINGS)
    for number in range(3):
        folder.write(number, {"attributions": MAPS[4 * number : 4 * number + 4].clone()})
    folder.finish(10, 4)
    return folder


def test_items_are_the_rows_in_order(stored):
    maps = AttributionDataset(stored.folder)
    assert len(maps) == 10 and maps.settings == SETTINGS
    assert torch.equal(torch.stack([maps[i] for i in range(10)]), MAPS)
    assert torch.equal(torch.stack(list(maps)), MAPS)
    assert torch.equal(maps[-1], MAPS[9]) and torch.equal(maps[np.int64(3)], MAPS[3])
    for beyond in (10, -11):
        with pytest.raises(IndexError, match=r"index must be in \[-10, 10\)"):
            maps[beyond]


def test_it_serves_loaders_beside_the_examples(stored):
    maps = pickle.loads(pickle.dumps(AttributionDataset(stored.folder)))
    both = StackDataset(TensorDataset(MAPS * 2), maps)
    batches = list(DataLoader(both, 3))
    assert torch.equal(torch.cat([b[1] for b in batches]) * 2, torch.cat([b[0][0] for b in batches]))


def test_deltas_come_as_in_attribute(tmp_path):
    folder = open_folder(tmp_path, SETTINGS)
    folder.write(0, {"attributions/0": MAPS, "attributions/1": -MAPS, "delta": MAPS[:, 0].clone()})
    folder.finish(10, 10)
    item = AttributionDataset(tmp_path)[4]
    assert isinstance(item, AttributionResult) and item.weights is None
    (first, second), delta = item
    assert torch.equal(first, MAPS[4]) and torch.equal(second, -MAPS[4]) and delta == MAPS[4, 0]
    maps, deltas = next(iter(DataLoader(AttributionDataset(tmp_path), 4)))
    assert maps[1].shape == (4, 2) and deltas.shape == (4,)


def test_the_bytes_are_the_same_each_time(tmp_path):
    contents = set()
    for attempt in range(5):
        folder = open_folder(tmp_path / str(attempt), SETTINGS)
        folder.write(0, {name: MAPS.clone() for name in ("delta", "attributions/0", "attributions/1")})
        contents.add((folder.folder / "000000.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_shard_counts_only_whole_and_of_the_same_settings(stored):
    assert stored.has(0) and not stored.has(3)
    assert not ShardFolder(stored.folder, "another digest").has(0)
    path = stored.folder / "000000.safetensors"
    content = path.read_bytes()
    for damage in (content[:-1], content[:20], b"", content + b"x"):
        path.write_bytes(damage)
        assert not stored.has(0)


def test_a_folder_without_all_maps(tmp_path):
    with pytest.raises(ValueError, match="holds no maps; call attribute_dataset"):
        AttributionDataset(tmp_path / "nothing")
    open_folder(tmp_path / "begun", SETTINGS)
    with pytest.raises(ValueError, match="holds only some of the maps; call attribute_dataset"):
        AttributionDataset(tmp_path / "begun")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "maps").write_text("")
    with pytest.raises(ValueError, match="maps is a file; give a folder"):
        open_folder(tmp_path / "maps", SETTINGS)


def test_a_missing_shard(stored):
    (stored.folder / "000001.safetensors").unlink()
    maps = AttributionDataset(stored.folder)
    assert torch.equal(maps[0], MAPS[0])
    with pytest.raises(ValueError, match=r"000001.safetensors is missing or damaged .*; call attribute_dataset again"):
        maps[4]


def test_settings_are_of_one_kind(stored):
    open_folder(stored.folder, SETTINGS)
    with pytest.raises(ValueError, match=r"holds maps of other settings: steps.n: 3 there, 4 here; give another out"):
        open_folder(stored.folder, {**SETTINGS, "steps": {"n": 4}})


def test_temporary_files_of_killed_processes_go_after_a_while(tmp_path):
    fresh, old = tmp_path / "0.ab.part", tmp_path / "1.cd.part"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    open_folder(tmp_path, SETTINGS)
    assert fresh.exists() and not old.exists()


def test_a_file_that_cant_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"before"
