import errno
import json
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from benchmarks.run import store as stores
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import Store, open_store
from captum_wg.datasets.fingerprint import differences

SETTINGS = {"seed": 0, "model": {"name": "resnet50", "steps": 20}}
TABLE = pd.DataFrame({"image": ["a", "b"], "score": [0.1 + 0.2, np.nan], "map": [b"\x00\xff", b""]})
KEY = ("scores", "DeletionAUC", "000000")


def test_a_table_comes_back_bit_for_bit(tmp_path):
    store = open_store(tmp_path / "new" / "folder", SETTINGS)
    assert not store.has(KEY)
    store.write(KEY, TABLE)
    assert store.has(KEY)
    pd.testing.assert_frame_equal(store.read(KEY), TABLE, check_exact=True)
    again = open_store(tmp_path / "new" / "folder", SETTINGS)
    pd.testing.assert_frame_equal(again.read_all([KEY, KEY]), pd.concat([TABLE, TABLE], ignore_index=True))


def test_a_file_says_how_to_make_it_again(tmp_path):
    import pyarrow.parquet as pq

    open_store(tmp_path, SETTINGS).write(KEY, TABLE)
    made_with = json.loads(pq.read_schema(tmp_path / "scores/DeletionAUC/000000.parquet").metadata[b"made_with"])
    assert made_with == {"key": list(KEY), "settings": SETTINGS}


def test_a_result_is_written_once(tmp_path):
    store = open_store(tmp_path, SETTINGS)
    store.write(KEY, TABLE)
    store.write(KEY, TABLE.assign(score=1.0))
    pd.testing.assert_frame_equal(store.read(KEY), TABLE)


def test_a_folder_of_other_settings_is_refused_by_name(tmp_path):
    open_store(tmp_path, SETTINGS)
    other = {"seed": 1, "model": {"name": "resnet50"}, "alpha": 0.5}
    with pytest.raises(
        BenchmarkError,
        match=r"other settings: alpha: nothing there, 0\.5 here; model\.steps: 20 there, nothing here; "
        r"seed: 0 there, 1 here",
    ):
        open_store(tmp_path, other)
    assert differences(SETTINGS, SETTINGS) == ""


def test_a_refusal_says_what_to_do_and_whether_only_the_versions_differ(tmp_path):
    open_store(tmp_path, {**SETTINGS, "versions": {"torch": "2.3"}})
    with pytest.raises(
        BenchmarkError,
        match=r'results of other versions of the code or the packages: versions\.torch: "2\.3" there, "2\.4" here; '
        r"give another --out, or delete this folder$",
    ):
        open_store(tmp_path, {**SETTINGS, "versions": {"torch": "2.4"}})
    with pytest.raises(BenchmarkError, match=r"results of other settings: seed: .* delete this folder"):
        open_store(tmp_path, {**SETTINGS, "seed": 1, "versions": {"torch": "2.4"}})


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes of POSIX")
@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_files_have_the_mode_that_the_user_asks_for(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        open_store(tmp_path, SETTINGS).write(KEY, TABLE)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()} == {mode}


def test_a_file_of_other_settings_is_refused(tmp_path):
    open_store(tmp_path / "a", SETTINGS).write(KEY, TABLE)
    store = open_store(tmp_path / "b", {**SETTINGS, "seed": 5})
    (tmp_path / "b/scores/DeletionAUC").mkdir(parents=True)
    os.rename(tmp_path / "a/scores/DeletionAUC/000000.parquet", tmp_path / "b/scores/DeletionAUC/000000.parquet")
    with pytest.raises(BenchmarkError, match="was made with other settings: seed: 0 there, 5 here"):
        store.read(KEY)


def test_results_without_their_settings_are_refused(tmp_path):
    open_store(tmp_path, SETTINGS).write(KEY, TABLE)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(BenchmarkError, match=r"holds results without settings\.json"):
        open_store(tmp_path, SETTINGS)


def test_settings_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(BenchmarkError, match="is no JSON"):
        open_store(tmp_path, SETTINGS)


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="can't be used"):
        open_store(tmp_path / "file", SETTINGS)


@pytest.mark.parametrize("number, words", [(errno.ENOSPC, "the disk is full"), (errno.EIO, "went wrong")])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, number, words):
    store = open_store(tmp_path, SETTINGS)

    def fail(handle):
        raise OSError(number, "went wrong")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BenchmarkError, match=f"could not be written: .*{words}.*Nothing half-written is left"):
        store.write(KEY, TABLE)
    assert not store.has(KEY)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["settings.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_file_system_that_stops_midway_leaves_nothing(tmp_path):
    script = (
        "import resource, numpy as np, pandas as pd, sys\n"
        "from benchmarks.run.store import open_store\n"
        "store = open_store(sys.argv[1], {})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "store.write(('big',), pd.DataFrame({'x': np.random.default_rng(0).random(100_000)}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "BenchmarkError" in done.stderr and "Nothing half-written is left" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]


def test_a_damaged_or_missing_file_is_named(tmp_path):
    store = open_store(tmp_path, SETTINGS)
    with pytest.raises(BenchmarkError, match="is missing; run the command again"):
        store.read(KEY)
    store.write(KEY, TABLE)
    path = tmp_path / "scores/DeletionAUC/000000.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BenchmarkError, match="is damaged; run the command again"):
        store.read(KEY)


def test_what_a_killed_process_left_is_no_result_and_goes_after_a_while(tmp_path):
    store = open_store(tmp_path, SETTINGS)
    store.write(KEY, TABLE)
    fresh, old = (tmp_path / "scores" / f"{name}.parquet123.part" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * stores._ABANDONED_SECONDS,) * 2)
    open_store(tmp_path, SETTINGS)
    assert fresh.exists() and not old.exists()
    assert not store.has(("scores", "fresh"))


@pytest.mark.parametrize("key", [(), ("..", "x"), ("a/b",), ("",)])
def test_keys_are_plain_names(tmp_path, key):
    with pytest.raises(ValueError, match="a key must be a tuple of names"):
        open_store(tmp_path, SETTINGS).has(key)


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(BenchmarkError, match="does not see the results folder"):
        Store(tmp_path / "elsewhere", "{}").check_visible()


def test_a_result_can_be_deleted(tmp_path):
    store = open_store(tmp_path, {"seed": 0})
    store.write(("a", "b"), pd.DataFrame({"x": [1]}))
    store.delete(("a", "b"))
    assert not store.has(("a", "b"))
    store.delete(("a", "b"))
    (tmp_path / "a" / "b.parquet").mkdir()
    with pytest.raises(BenchmarkError, match="can't be deleted"):
        store.delete(("a", "b"))


def _written(tmp_path):
    store = open_store(tmp_path, {"seed": 0})
    table = pd.DataFrame(
        {"image": ["a", "b"], "map": [b"\x00" * 200, b"\x01\x02" * 100], "score": [0.25, float("nan")]}
    )
    store.write(("maps", "one"), table)
    return store, table, tmp_path / "maps" / "one.parquet"


def test_any_flipped_bit_is_found(tmp_path, capsys):
    store, table, path = _written(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(BenchmarkError, match=r"one\.parquet is damaged; run the command again"):
            store.read(("maps", "one"))
    path.write_bytes(content)
    pd.testing.assert_frame_equal(store.read(("maps", "one")), table)


@pytest.mark.parametrize("damage", [lambda c: c[:-40], lambda c: c[:10], lambda c: b"", lambda c: c + b"x"])
def test_a_damaged_result_is_set_aside_by_name_and_made_anew(tmp_path, capsys, damage):
    store, table, path = _written(tmp_path)
    assert store.has(("maps", "one"))
    content = path.read_bytes()
    path.write_bytes(damage(content))
    os.utime(path, ns=(1, 1))
    assert not store.has(("maps", "one"))
    assert "one.parquet is damaged: it is set aside as one.parquet.damaged" in capsys.readouterr().err
    assert (tmp_path / "maps" / "one.parquet.damaged").read_bytes() == damage(content)
    assert store.keys("maps") == []
    store.write(("maps", "one"), table)
    assert path.read_bytes() == content


def test_a_result_is_an_ordinary_parquet_file(tmp_path):
    _, table, path = _written(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
