"""`--download` from servers that break off, ignore what they are asked, lie, refuse and hang."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Command
from datasets import RATE, dataset_bytes, files_in

from musicspectrogan.data import composer, download
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import Selection
from musicspectrogan.errors import UserError

DATA = np.random.default_rng(0).bytes(100_000)
SHA1 = {"a.zip": hashlib.sha1(DATA).hexdigest()}


class Server(ThreadingHTTPServer):
    """Serves `files`. Each request takes the next of `answers`, and a good one after the last."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.answers: list[Callable[[Handler, bytes], None]] = []
        self.requests: list[tuple[str, str | None]] = []
        """Name of the file, and the range that was asked for."""
        self.etag: str | None = '"1"'
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/files/")
        self.server.requests.append((name, self.headers["Range"]))
        answers = self.server.answers
        (answers.pop(0) if answers else good)(self, self.server.files[name])

    def log_message(self, *arguments: object) -> None:
        pass

    def head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def good(handler: Handler, data: bytes, most: int | None = None) -> None:
    """Send what is asked for, or break off after `most` bytes."""
    asked = handler.headers["Range"]
    if not asked:
        handler.head(200, len(data))
        handler.wfile.write(data[:most])
        return
    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
    if start >= len(data):
        handler.head(416, 0, Content_Range=f"bytes */{len(data)}")
        return
    stated = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.head(206, len(data) - start, Content_Range=stated)
    handler.wfile.write(data[start:][:most])


def breaks_after(most: int) -> Callable[[Handler, bytes], None]:
    return lambda handler, data: good(handler, data, most)


def ignores_range(handler: Handler, data: bytes, most: int | None = None) -> None:
    handler.head(200, len(data))
    handler.wfile.write(data[:most])


def answers_with(status: int) -> Callable[[Handler, bytes], None]:
    return lambda handler, data: handler.head(status, 0)


def hangs(handler: Handler, data: bytes) -> None:
    handler.head(200, len(data))
    handler.wfile.write(data[:10_000])
    handler.server.closing.wait(20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "_BLOCK_BYTES", 1000)
    server = Server({"a.zip": DATA})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Server, folder: Path, url: str | None = None) -> None:
    download.fetch(SHA1, folder, url or server.url)


def check(folder: Path) -> None:
    """Assert that the file is whole, and nothing else is left."""
    assert (folder / "a.zip").read_bytes() == DATA
    assert [name for name in files_in(folder) if name != ".lock"] == ["a.zip"]


def test_it_goes_on_where_the_server_broke_off(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_after(30_000), breaks_after(20_000), answers_with(503)]
    fetch(server, tmp_path)
    check(tmp_path)
    asked = [start for _, start in server.requests]
    assert asked == [None, "bytes=30000-", "bytes=50000-", "bytes=50000-"]
    fetch(server, tmp_path)  # is there
    assert len(server.requests) == 4


def test_attempts_are_bounded_and_the_next_command_continues(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [breaks_after(30_000), *[breaks_after(0)] * 3]
    with pytest.raises(
        UserError,
        match=r"a\.zip: the connection broke off; gave up after 4 attempts\. Repeat the command to "
        r"continue after 29\.3 KiB, or name another address with --mirror$",
    ):
        fetch(server, tmp_path)
    assert len(server.requests) == 4
    assert (tmp_path / "a.zip.part").read_bytes() == DATA[:30_000]
    assert caplog.text.count("the connection broke off; continuing after 29.3 KiB") == 3
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.requests[4:] == [("a.zip", "bytes=30000-")]


def test_attempts_that_bring_much_do_not_count(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ENOUGH_BYTES", 10_000)
    server.answers = [breaks_after(10_000)] * 9
    fetch(server, tmp_path)
    check(tmp_path)
    assert len(server.requests) == 10


def test_a_server_without_ranges_sends_all_again_and_nothing_is_lost_meanwhile(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [
        breaks_after(60_000),
        lambda handler, data: ignores_range(handler, data, 20_000),
        ignores_range,
    ]
    fetch(server, tmp_path)
    check(tmp_path)
    asked = [start for _, start in server.requests]
    assert asked == [None, "bytes=60000-", "bytes=60000-"]


def test_what_changed_on_the_server_is_downloaded_anew(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["a.zip"] = b"x" * 120_000
    server.answers = [breaks_after(50_000), *[breaks_after(0)] * 3]
    with pytest.raises(UserError, match="gave up"):
        fetch(server, tmp_path)
    server.files["a.zip"], server.etag = DATA, '"2"'
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.requests[4:] == [("a.zip", "bytes=50000-"), ("a.zip", None)]
    assert "changed on the server; starting again" in caplog.text


def test_a_part_longer_than_the_file_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    server.etag = None
    (tmp_path / "a.zip.part").write_bytes(DATA + b"more")
    fetch(server, tmp_path)
    check(tmp_path)
    assert [start for _, start in server.requests] == ["bytes=100004-", None]


def test_another_mirror_continues_the_same_file(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_after(30_000), *[answers_with(500)] * 3]
    with pytest.raises(UserError, match=r"500 Internal Server Error; gave up after 4 attempts"):
        fetch(server, tmp_path)
    server.etag = '"of the mirror"'
    fetch(server, tmp_path, server.url.replace("127.0.0.1", "localhost"))
    check(tmp_path)
    assert server.requests[4:] == [("a.zip", "bytes=30000-")]


def test_wrong_bytes_are_removed_and_downloaded_anew(server: Server, tmp_path: Path) -> None:
    server.files["a.zip"] = bytes(100_000)
    with pytest.raises(UserError, match=r"a\.zip: does not have the published SHA-1 and is remov"):
        fetch(server, tmp_path)
    assert files_in(tmp_path) in ([], [".lock"])
    server.files["a.zip"] = DATA
    fetch(server, tmp_path)
    check(tmp_path)


def test_a_wrong_file_of_the_user_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"a\.zip: does not have the published SHA-1; move it away"):
        fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b"mine" and not server.requests


def test_what_is_not_there_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.answers = [answers_with(404)]
    with pytest.raises(
        UserError, match=r"/files/a\.zip: the server answers 404 Not Found; name another address"
    ):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [("http://127.0.0.1:9", "cannot be reached; gave up after 4"), ("http://[::1", "Failed to")],
)
def test_no_server(url: str, problem: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        fetch(server, tmp_path, url)


def test_a_server_that_hangs_is_asked_again(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.answers = [hangs]
    fetch(server, tmp_path)
    check(tmp_path)
    assert "no answer within 0.2 s; continuing after 9.8 KiB" in caplog.text
    assert server.requests[1:] == [("a.zip", "bytes=10000-")]


def test_too_little_space_is_told_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 0, 99_999)
    )
    with pytest.raises(
        UserError, match=r"a\.zip needs 97\.7 KiB more, and 97\.7 KiB are free; make room"
    ):
        fetch(server, tmp_path)
    assert not (tmp_path / "a.zip.part").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="stands for a full disk")
def test_a_full_disk_names_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.zip\.part'"):
        fetch(server, tmp_path)


def test_an_interrupted_check_keeps_what_has_arrived(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pooch.core.hash_matches", interrupted)
        fetch(server, tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == DATA
    fetch(server, tmp_path)
    check(tmp_path)
    assert len(server.requests) == 1


def test_file_systems_without_links(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    fetch(server, tmp_path)
    check(tmp_path)


@pytest.fixture(scope="module")
def fma_archives() -> dict[str, bytes]:
    """Two tracks in FMA's layout: the two archives, compressed by bzip2 as FMA's are."""
    packed = {}
    names = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "license")]
    names += [("artist", "name"), ("track", "title")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([["", *(upper for upper, _ in names)], ["", *(lower for _, lower in names)]])
    table.writerow(["track_id", *[""] * len(names)])
    table.writerow([2, "training", "small", "Hip-Hop", "Attribution", "AWOL", "Food"])
    table.writerow([5, "test", "small", "Rock", "CC0 1.0", "AWOL", "This World"])
    files = {"fma_metadata": {"fma_metadata/tracks.csv": text.getvalue().encode()}}
    files["fma_small"] = {}
    for number in (2, 5):
        sound = io.BytesIO()
        clip = composer.compose("bass", number, seed=1, seconds=7.0)
        soundfile.write(sound, clip, RATE, format="MP3")
        files["fma_small"][f"fma_small/000/{number:06d}.mp3"] = sound.getvalue()
    for name, inside in files.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
            for member, contents in inside.items():
                archive.writestr(member, contents)
        packed[f"{name}.zip"] = buffer.getvalue()
    return packed


LINE = "preprocess.py --dataset fma --jobs 1 --download small --mirror".split()


def test_the_command_downloads_continues_and_converts(
    server: Server,
    fma_archives: dict[str, bytes],
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.files = fma_archives
    sums = {name: hashlib.sha1(data).hexdigest() for name, data in fma_archives.items()}
    monkeypatch.setattr("musicspectrogan.data.fma_archives.ARCHIVES_SHA1", sums)
    real = download.progress_bar

    def interrupting(**options: object) -> object:
        bar = real(**options)
        if options["description"] == "fma_small.zip":

            def update(amount: int) -> None:
                raise KeyboardInterrupt

            bar.update = update
        return bar

    with monkeypatch.context() as patch:
        patch.setattr(download, "progress_bar", interrupting)
        told = command(*LINE, server.url, "--output", "out", cwd=tmp_path, status=130).stderr
    assert "run the same command again to continue" in told
    assert (tmp_path / "fma" / "fma_small.zip.part").stat().st_size == 1000

    told = command(*LINE, f"{server.url}/", "--output", "out", cwd=tmp_path).stderr
    assert "fma_metadata.zip is there; checking its SHA-1" in told
    assert server.requests == [
        ("fma_metadata.zip", None), ("fma_small.zip", None), ("fma_small.zip", "bytes=1000-")
    ]  # fmt: skip
    found = {name for name in files_in(tmp_path / "fma") if name != ".lock"}
    assert found == {"fma_metadata.zip", "fma_small.zip"}
    assert len(dataset_bytes(tmp_path / "out")) == 5
    assert (tmp_path / "out" / "attribution.csv").read_text().splitlines() == [
        "track,artist,title,album,license,url",
        "000002,AWOL,Food,,Attribution,",
        "000005,AWOL,This World,,CC0 1.0,",
    ]

    # The same without the flag: the dataset is the same.
    told = command(
        "preprocess.py", "--dataset", "fma", "--input", "fma", "--output", "out", cwd=tmp_path
    ).stderr
    assert "2 of 2 tracks were converted before" in told

    (tmp_path / "fma" / "fma_metadata.zip").unlink()
    line = [*LINE, server.url, "--output", "out"]
    line[line.index("small")] = "metadata"
    assert "2 of 2 tracks were converted before" in command(*line, cwd=tmp_path).stderr
    assert server.requests[3:] == [("fma_metadata.zip", None)]


def test_the_download_of_a_larger_subset_selects_it() -> None:
    def selected(**options: object) -> tuple[Path | None, str | None]:
        config = PreprocessConfig(dataset="fma", **options)
        return config.input, config.selection.subset

    assert selected(download="small") == selected(download="metadata") == (Path("fma"), None)
    assert selected(download="large") == (Path("fma"), "large")
    given = Selection(subset="medium")
    assert selected(download="full", selection=given, input=Path("x")) == (Path("x"), "medium")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--dataset gtzan --input . --download small", "--download has no effect with --dataset g"),
        ("--dataset fma --download tiny", "--download: 'tiny' is not one of small, medium, large"),
        ("--dataset fma --download small --subset large", "--subset large is not in --download sm"),
        ("--dataset fma --input . --mirror http://a.example", "--mirror has no effect without"),
        (
            "--dataset fma --input q --download small",
            "--input q is a file; name the folder to down",
        ),
        ("--dataset fma --download small --mirror ftp://a", "--mirror ftp://a: expected an addres"),
    ],
)
def test_wrong_flags(flags: str, problem: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "q").touch()
    assert problem in command("preprocess.py", *flags.split(), cwd=tmp_path, status=2).stderr
    assert not (tmp_path / "fma").exists()
