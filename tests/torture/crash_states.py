"""Record file system operations, and build the states that a power cut may leave on the disk.

After ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014), for a file system
with the guarantees of POSIX: the contents of a file are safe once the file is synced, a name once
its folder is. Of the rest any part may be on the disk, in any order. Only a rename is atomic.
"""

from __future__ import annotations

import os
import pathlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from musicspectrogan import filesystem

# Files are 1 and up, folders -1 and down; ROOT is the folder that is recorded.
Number = int
ROOT: Number = 0


@dataclass(frozen=True)
class Names:
    """Changes of a folder's entries by one call: names and their new numbers, None for removed."""

    folder: Number
    changed: dict[str, Number | None]


@dataclass(frozen=True)
class Contents:
    """New contents of a file."""

    file: Number
    data: bytes


@dataclass(frozen=True)
class Sync:
    """A file or folder (None: everything) is written to the disk."""

    what: Number | None


@dataclass(frozen=True)
class Promise:
    """What the program reports as safe from now on."""

    value: Any


Operation = Names | Contents | Sync | Promise


@dataclass
class Disk:
    """Files and folders by their numbers."""

    folders: defaultdict[Number, dict[str, Number]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    files: defaultdict[Number, bytes] = field(default_factory=lambda: defaultdict(bytes))

    def apply(self, operation: Operation) -> None:
        if isinstance(operation, Contents):
            self.files[operation.file] = operation.data
        elif isinstance(operation, Names):
            names = self.folders[operation.folder]
            for name, number in operation.changed.items():
                if number is None:
                    names.pop(name, None)
                else:
                    names[name] = number

    def paths(self, folder: Number = ROOT, prefix: str = "") -> Iterator[tuple[str, Number]]:
        """Yield all paths and numbers below the root, parents first."""
        for name, number in self.folders[folder].items():
            yield prefix + name, number
            if number < 0:
                yield from self.paths(number, f"{prefix}{name}/")

    def key(self) -> int:
        """Return a hash that is equal for equal trees."""
        return hash(
            frozenset((path, number > 0 and self.files[number]) for path, number in self.paths())
        )

    def write(self, root: Path) -> None:
        """Write the tree to a new folder, with the same hard links."""
        root.mkdir(parents=True)
        written: dict[Number, Path] = {}
        for name, number in self.paths():
            path = root / name
            if number < 0:
                path.mkdir()
            elif number in written:
                os.link(written[number], path)
            else:
                path.write_bytes(self.files[number])
                written[number] = path


class Recorder:
    """Record the file system operations of this process below a folder.

    Calls that change names or sync are patched. The contents of files are read before each of them,
    so that no way to write is missed. A change of names that was not recorded is an error. Nothing
    is really synced.

    Args:
        root: a folder; its contents count as already on the disk.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root.resolve()
        self.log: list[Operation] = []
        self.disk = Disk()
        self.promised: Any = None
        self._numbers: dict[int, Number] = {self.root.stat().st_ino: ROOT}
        self._given = 0
        self._look(self.root, at_first=True)
        self.log.append(Sync(None))
        for owner in filter(
            None, (os, getattr(pathlib, "_normal_accessor", None))
        ):  # its own in Python 3.10
            for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir"):
                if hasattr(owner, name):
                    monkeypatch.setattr(owner, name, self._noting(name, getattr(os, name)))
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(filesystem, "_syncfs_of_libc", lambda: self._syncfs)

    def promise(self, value: Any) -> None:
        """Record what the program reports as safe."""
        self._look(self.root)
        self.log.append(Promise(value))
        self.promised = value

    def finish(self) -> list[Operation]:
        """Return the log, after checking that replaying it gives the present files."""
        self._look(self.root)
        replayed = Disk()
        for operation in self.log:
            replayed.apply(operation)
        paths = dict(replayed.paths())
        assert paths.keys() == {
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*")
        }
        for path, number in paths.items():
            assert number < 0 or (self.root / path).read_bytes() == replayed.files[number], path
        return self.log

    def _noting(self, call: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **options: Any) -> Any:
            paths = [
                Path(path).absolute() for path in arguments if isinstance(path, (str, os.PathLike))
            ]
            if not any(self.root in path.parents for path in paths):
                return function(*arguments, **options)
            self._look(self.root)
            done = function(*arguments, **options)
            self._note(call, *paths)
            return done

        return noting

    def _note(self, call: str, path: Path, target: Path | None = None) -> None:
        folder = self._number(path.parent)
        if target is None:
            self._change(folder, {path.name: self._new(path) if call == "mkdir" else None})
            return
        assert target.parent == path.parent, "moved from folder to folder"
        number = self.disk.folders[folder][path.name]
        self._change(folder, {target.name: number} | ({} if call == "link" else {path.name: None}))

    def _change(self, folder: Number, changed: dict[str, Number | None]) -> None:
        self._add(Names(folder, changed))
        # The system gives an inode that is free again to the next file.
        reachable = {ROOT, *(number for _, number in self.disk.paths())}
        self._numbers = {
            inode: number for inode, number in self._numbers.items() if number in reachable
        }

    def _add(self, operation: Names | Contents) -> None:
        self.log.append(operation)
        self.disk.apply(operation)

    def _number(self, path: Path) -> Number:
        return self._numbers[path.stat().st_ino]

    def _new(self, path: Path) -> Number:
        self._given += 1
        number = -self._given if path.is_dir() else self._given
        self._numbers[path.stat().st_ino] = number
        return number

    def _look(self, folder: Path, *, at_first: bool = False) -> None:
        """Record new files and changed contents."""
        number = self._number(folder)
        known = self.disk.folders[number]
        found = {path.name: path for path in sorted(folder.iterdir())}
        assert known.keys() <= found.keys(), (
            f"{known.keys() - found.keys()} went unseen from {folder}"
        )
        for name, path in found.items():
            if name not in known:
                assert at_first or path.is_file(), f"{path} came unseen"
                self._change(number, {name: self._new(path)})
            assert known[name] == self._number(path), f"{path} was replaced unseen"
            if known[name] < 0:
                self._look(path, at_first=at_first)
            elif (data := path.read_bytes()) != self.disk.files[known[name]]:
                self._add(Contents(known[name], data))

    def _fsync(self, descriptor: int) -> None:
        self._look(self.root)
        number = self._numbers.get(os.fstat(descriptor).st_ino)
        if number is not None:  # else something outside
            self.log.append(Sync(number))

    def _syncfs(self, descriptor: int) -> int:
        self._look(self.root)
        self.log.append(Sync(None))
        return 0


@dataclass(frozen=True)
class State:
    """A state that a power cut may leave."""

    disk: Disk
    promise: Any
    """The last promise; None for nothing."""
    moment: str
    """Of the power cut, and which pending operations reached the disk, for error messages."""


# Which part of new contents may be on the disk: all, nothing, half of the addition, or its length.
KEPT: dict[str, Callable[[bytes, bytes], bytes]] = {
    "all": lambda old, new: new,
    "nothing": lambda old, new: old,
    "half": lambda old, new: new[: (_common(old, new) + len(new)) // 2],
    "zeros": lambda old, new: new[: _common(old, new)] + bytes(len(new) - _common(old, new)),
}
# Which part of new names: all, nothing, or added names beside those that should be gone.
NAMES_KEPT: dict[str, Callable[[dict[str, Number | None]], dict[str, Number | None]]] = {
    "all": lambda changed: changed,
    "nothing": lambda changed: {},
    "both": lambda changed: {
        name: number for name, number in changed.items() if number is not None
    },
}
# Random choices in addition to the systematic ones.
DRAWS = 8


def _common(old: bytes, new: bytes) -> int:
    return len(old) if new.startswith(old) else 0


def crash_states(log: list[Operation], each: int, seed: int = 0) -> Iterator[State]:
    """Yield distinct states that a power cut may leave, at most `each` for a moment, in order."""
    rng = random.Random(seed)
    seen: set[tuple[int, str]] = set()
    synced, pending, promise = Disk(), [], None
    begun = log.index(Sync(None))
    for moment, operation in enumerate(log):
        if isinstance(operation, Promise):
            promise = operation.value
        elif isinstance(operation, Sync):
            for earlier in pending:
                if operation.what in (None, _about(earlier)):
                    synced.apply(earlier)
            pending = [
                earlier for earlier in pending if operation.what not in (None, _about(earlier))
            ]
        else:
            pending.append(operation)
        if moment < begun:
            continue
        nothing, everything, *more = _choices(pending, rng)
        for choice in (nothing, everything, *rng.sample(more, min(max(each - 2, 0), len(more)))):
            disk = _built(synced, pending, choice)
            key = disk.key(), repr(promise)
            if key not in seen:
                seen.add(key)
                yield State(
                    disk, promise, f"operation {moment}, kept of {len(pending)}: {' '.join(choice)}"
                )


def _about(operation: Names | Contents) -> Number:
    return operation.folder if isinstance(operation, Names) else operation.file


def _choices(pending: list[Names | Contents], rng: random.Random) -> Iterator[list[str]]:
    """Yield what to keep of each operation: none, all, all but one, one alone, random choices."""
    n = len(pending)
    kinds = [list(NAMES_KEPT if isinstance(operation, Names) else KEPT) for operation in pending]
    yield ["nothing"] * n
    yield ["all"] * n
    for word in (
        "nothing",
        "half",
        "zeros",
    ):  # the classic: new names of files without their contents
        yield [word if word in kind and "both" not in kind else "all" for kind in kinds]
    for index, kind in enumerate(kinds):
        for word in kind:
            yield ["all"] * index + [word] + ["all"] * (n - index - 1)
            yield ["nothing"] * index + [word] + ["nothing"] * (n - index - 1)
    for _ in range(DRAWS if pending else 0):
        yield [rng.choice(kind) for kind in kinds]


def _built(synced: Disk, pending: list[Names | Contents], choice: list[str]) -> Disk:
    disk = Disk()
    disk.folders.update({number: dict(names) for number, names in synced.folders.items()})
    disk.files.update(synced.files)
    for operation, word in zip(pending, choice, strict=True):
        if isinstance(operation, Names):
            disk.apply(replace(operation, changed=NAMES_KEPT[word](operation.changed)))
        else:
            disk.apply(
                replace(operation, data=KEPT[word](disk.files[operation.file], operation.data))
            )
    return disk
