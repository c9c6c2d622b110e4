"""Safe names, durable writes and locks."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from conftest import command_line, environment
from hypothesis import given, settings
from hypothesis import strategies as st

from musicspectrogan import filesystem
from musicspectrogan.errors import UserError, printable
from musicspectrogan.filesystem import (
    LONGEST_NAME_BYTES,
    allocate_space,
    distinct_name,
    distinct_names,
    file_lock,
    folder_lock,
    is_clutter,
    make_folder,
    public_name,
    public_names,
    safe_name,
    sync_file_system,
    sync_files,
    sync_folder,
    visible_folders,
    write_text,
)

ANY_TEXT = st.text(
    st.characters(exclude_categories=()), max_size=300
)  # also surrogates, as in file names
LIKE_PATHS = st.text("./\\:~ -con\0\n\x1bé日\udcff", max_size=30)


def outside(name: str) -> bool:
    """Whether a name is anything but one visible entry of a folder."""
    one_entry = PurePosixPath(name).name == PureWindowsPath(name).name == name
    return not one_entry or name[0] in ". " or name[-1] in ". "


@given(ANY_TEXT | LIKE_PATHS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_safe_name_is_one_visible_entry_on_every_system(text):
    name = safe_name(text)
    assert not outside(name)
    assert printable(name) == name and name.encode("utf-8")
    assert len(name.encode("utf-8")) <= LONGEST_NAME_BYTES
    assert not PureWindowsPath(name).is_reserved()
    assert safe_name(name) == name
    assert not outside(distinct_name(text))


@given(st.lists(LIKE_PATHS, min_size=2, max_size=8, unique=True))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_distinct_names_are_distinct(texts):
    assert len({distinct_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("con", "_con"), ("NUL", "_NUL"), ("Aux.tar.gz", "_Aux.tar.gz"), ("com1", "_com1"),
        ("LPT9.x", "_LPT9.x"), ("con ", "_con"), ("nul...", "_nul"), ("/con", "_con"),
        ("console", "console"),
        ("com10", "com10"),
        ("../../etc", "etc"), ("C:\\Windows", "C-Windows"), ("a\0b", "a-b"),
        ("rock\u202egnp", "rock-gnp"),
        ("\x1b[31mred", "[31mred"),
    ],
)  # fmt: skip
def test_windows_devices_and_path_separators_are_replaced(text, name):
    assert safe_name(text) == name


@given(
    st.lists(
        LIKE_PATHS | st.sampled_from(["Rock", "rock", "ROCK?", "é", "e\u0301", ".lock"]),
        max_size=8,
    )
)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_names_of_different_texts_differ_on_every_file_system(texts):
    names = distinct_names(texts, taken=["rock", "con"])
    forms = {unicodedata.normalize("NFC", text) for text in texts}
    used = {unicodedata.normalize("NFC", name).casefold() for name in names.values()}
    assert names.keys() == set(texts) and len(used) == len(forms) and not used & {"rock", "con"}
    assert not any(outside(name) for name in names.values())


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["AC:DC", "AC-DC"], ["AC-DC-782c8b5a", "AC-DC"]),
        (["AC:DC"], ["AC-DC"]),
        (["Rock", "rock"], ["Rock", "rock-3749bba2"]),
        (["M\u00fasica", "Mu\u0301sica"], ["M\u00fasica", "M\u00fasica"]),
        (["Mu\u0301sica"], ["Mu\u0301sica"]),
        (["M\udcfasica", "M\udce1sica"], ["M\u00fasica", "M\u00e1sica"]),
        (["M\udcfasica", "M\u00fasica"], ["M\u00fasica-b1aed9ac", "M\u00fasica"]),
    ],
)
def test_only_colliding_names_get_a_hash(texts, names):
    assert list(map(distinct_names(texts).get, texts)) == names


@pytest.mark.parametrize(
    "name",
    [
        "._a.wav", ".DS_Store", ".git", ".Trash", ".Trash-1000", ".Trashes",
        ".cache.lock", ".cache", ".cache-64-0f.npy", "lost+found",
        ".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN",
        "System Volume Information",
        ".lock", ".dataset.json.tmp", ".a_000.png.5f.tmp", ".nfs0000000001",
    ],
)  # fmt: skip
def test_files_of_systems_and_tools_are_clutter(name):
    assert is_clutter(name)
    assert not is_clutter(safe_name(name))


@pytest.mark.parametrize(
    "name",
    [
        "...And Justice for All",
        ".hidden",
        ".5 The Gray Chapter",
        ".Trashcan Sinatras",
        ".cached",
        "..",
        "cache",
        "trash",
        ".lockdown",
        "_",
    ],
)
def test_a_leading_dot_alone_is_not_clutter(name):
    assert not is_clutter(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain «ü» 日本 \U0001f3b5", "plain «ü» 日本 \U0001f3b5"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x9b", "\\x1b[2J\\x07\\x9b"),
        ("caf\udce9", "caf\\udce9"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
    ],
)
def test_printable_escapes_control_characters(text, shown):
    assert printable(text) == shown


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of fsync and replace in order: `sync INODE` and `rename INODE`."""
    if os.name != "posix":
        pytest.skip("identifies descriptors by inodes")
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(f"sync {os.fstat(descriptor).st_ino}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(f"rename {Path(source).stat().st_ino}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return calls


def test_a_file_is_synced_before_it_takes_its_name_and_the_folder_after(tmp_path, synced):
    write_text(tmp_path / "x.txt", "text")
    file, folder = (tmp_path / "x.txt").stat().st_ino, tmp_path.stat().st_ino
    assert synced == [f"sync {file}", f"rename {file}", f"sync {folder}"]


def test_a_new_folder_is_synced_with_all_its_new_parents(tmp_path, synced):
    make_folder(tmp_path / "a" / "b")
    assert set(synced) == {
        f"sync {tmp_path.stat().st_ino}",
        f"sync {(tmp_path / 'a').stat().st_ino}",
    }
    synced.clear()
    make_folder(tmp_path / "a" / "b")  # a kill may have come just after it was created
    assert synced == [f"sync {(tmp_path / 'a').stat().st_ino}"]


@pytest.mark.parametrize("known", [True, False], ids=["syncfs", "no syncfs"])
def test_many_files_are_synced_by_one_call_or_each(known, tmp_path, synced, monkeypatch):
    files = [tmp_path / folder / name for folder in "ab" for name in "xy"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("text")
    called = []
    libc = (lambda descriptor: called.append(os.fstat(descriptor).st_ino) or 0) if known else None
    monkeypatch.setattr(filesystem, "_syncfs_of_libc", lambda: libc)
    sync_files(files)
    inodes = [path.stat().st_ino for path in (*files, tmp_path / "a", tmp_path / "b")]
    assert called == ([inodes[4]] if known else [])
    assert sorted(synced) == ([] if known else sorted(f"sync {inode}" for inode in inodes))


@pytest.mark.skipif(os.name != "posix", reason="Windows does not sync folders")
def test_unsupported_folder_syncs_are_ignored_and_disk_errors_are_not(tmp_path, monkeypatch):
    def failing(code: int):
        def fsync(descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", failing(22))
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(5))
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


def test_syncing_the_file_system_returns_whether_it_is_supported(tmp_path, monkeypatch):
    assert sync_file_system(tmp_path) == hasattr(filesystem._syncfs_of_libc(), "restype")
    monkeypatch.setattr(filesystem, "_syncfs_of_libc", lambda: None)
    assert not sync_file_system(tmp_path)


def without_locks(folder: Path, code: int) -> dict[str, str]:
    """An environment in which flock fails with that errno, by a module in `folder`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import fcntl, os\n"
        "def flock(descriptor, operation):\n"
        f"    raise OSError({code}, os.strerror({code}))\n"
        "fcntl.flock = flock\n"
    )
    path = os.pathsep.join([str(folder), environment()["PYTHONPATH"]])
    return {**environment(), "PYTHONPATH": path}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has locks on all of its file systems")
def test_training_on_a_file_system_without_locks_logs_a_warning(images, tmp_path):
    data = shutil.copytree(images, tmp_path / "data", ignore=shutil.ignore_patterns(".cache*"))
    line = command_line(
        "run.py", "--dataset", data, "--epochs", 1, "--width", 2, "--batch-size", 8,
        "--standing-batches", 1,
        "--device", "cpu", "--output", "run",
    )  # fmt: skip
    env = without_locks(tmp_path / "site", errno.ENOLCK)
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "lock" in line]
    assert warnings == [
        "run: this file system has no locks, so nothing prevents a second run from training there "
        "at the same time: start only one"
    ]
    assert "decoded again" not in done.stderr
    assert (
        len(list(data.glob(".cache-64-*.npy"))) == 1
        and (tmp_path / "run/checkpoints/latest.pt").exists()
    )


@pytest.mark.skipif(os.name != "posix", reason="Windows has locks on all of its file systems")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_one_at_a_time_yields_false_without_locks(code, tmp_path, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with file_lock(tmp_path / ".lock") as is_held:
        assert not is_held


@pytest.mark.skipif(os.name != "posix", reason="Windows has locks on all of its file systems")
def test_another_failure_of_a_lock_is_an_error(tmp_path, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="Input/output"), folder_lock(tmp_path, "training"):
        pass


def test_public_names_do_not_reveal_parent_folders():
    for path, name in (
        ("/home/me/runs/00000-cgan", "00000-cgan"),
        ("/home/me/run/checkpoints/best.pt", "run/checkpoints/best.pt"),
        ("runs/00000-cgan/checkpoints/latest.pt", "runs/00000-cgan/checkpoints/latest.pt"),
        ("latest", "latest"),
    ):
        assert public_name(Path(path)) == name
    paths = [Path("/a/run"), Path("/b/run"), Path("run"), Path("/c/other")]
    assert public_names(paths) == ["run", "run (2)", "run (3)", "other"]
    assert public_name(Path()) == Path.cwd().name
    assert public_name(Path("..")) == Path.cwd().parent.name


def test_a_long_name_is_cut_between_characters_and_gets_a_hash():
    text = "ä" * 200
    assert safe_name("x" * LONGEST_NAME_BYTES) == "x" * LONGEST_NAME_BYTES
    assert safe_name("x" * (LONGEST_NAME_BYTES + 1)).startswith(
        "x" * (LONGEST_NAME_BYTES - 9) + "-"
    )
    name = safe_name(text)
    kept, _, tag = name.partition("-")
    assert kept == "ä" * ((LONGEST_NAME_BYTES - 9) // 2)
    assert re.fullmatch("[0-9a-f]{8}", tag)
    assert safe_name(text + "ä") != name


def test_a_byte_that_is_no_character_of_old_windows_is_replaced():
    assert safe_name("caf\udce9 \udc81") == "café \ufffd"  # 0x81 is not assigned in cp1252
    assert safe_name("X - name - X") == "X - name - X"


def test_a_name_that_is_safe_already_stays_as_it_is():
    assert distinct_name("blues.00000") == "blues.00000"
    assert distinct_name("a/b").startswith("a-b-")
    # "a-b" is its own safe name, so it keeps it wherever it comes in the list.
    assert distinct_names(["a/b", "a-b"])["a-b"] == "a-b"
    assert distinct_names(["a!b", "a-b", "a:b"])["a-b"] == "a-b"


def test_visible_folders_are_sorted_and_leave_out_files_and_those_of_systems(tmp_path):
    for name in ("b", "a", ".Trash", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "c.wav").touch()
    assert [path.name for path in visible_folders(tmp_path)] == ["a", "b"]


def test_allocating_space_keeps_the_contents_and_takes_blocks(tmp_path):
    path = tmp_path / "map"
    with open(path, "wb") as file:
        file.write(b"begin")
        file.truncate(1 << 20)
    assert path.stat().st_blocks * 512 < 1 << 20
    allocate_space(path)
    assert path.stat().st_blocks * 512 >= 1 << 20
    assert (path.stat().st_size, path.read_bytes()[:5]) == (1 << 20, b"begin")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/below: cannot be made a folder: Not a directory"):
        make_folder(tmp_path / "file" / "below")


def test_a_file_system_that_fails_to_sync_is_named(tmp_path, monkeypatch):
    def fail(descriptor: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(filesystem, "_syncfs_of_libc", lambda: fail)
    with pytest.raises(OSError, match="Input/output error") as error:
        sync_file_system(tmp_path)
    assert (error.value.errno, error.value.filename) == (errno.EIO, str(tmp_path))
