"""Download files that may take hours: resumed where they stopped, and checked by pooch."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import sleep
from typing import Any, NoReturn

import pooch
import requests

from musicspectrogan.errors import UserError
from musicspectrogan.filesystem import (
    folder_lock,
    make_folder,
    name_in_errors,
    sync_file,
    sync_folder,
    write_text,
)
from musicspectrogan.progress import progress_bar

logger = logging.getLogger(__name__)

# Seconds to wait after each attempt in a row that brought nothing; after the last, give up.
PAUSES = (1.0, 2.0, 5.0, 10.0)
# Seconds to wait for an answer, and for the next bytes.
TIMEOUT = 30.0
# An attempt that brought this much counts as a success.
ENOUGH_BYTES = 1 << 20
# What has arrived of a block is lost if the connection breaks off.
_BLOCK_BYTES = 1 << 15
_TEMPORARY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


def fetch(files: Mapping[str, str], folder: Path, address: str) -> None:
    """Download the files that are not in a folder yet, and check all of them.

    What has arrived of `NAME` is `NAME.part` until it is complete and checked.

    Args:
        files: the SHA-1 of each file, by name.
        address: URL of the folder that holds them.

    Raises:
        UserError: a file cannot be downloaded, is not the right one, or the disk is too small; or
            the folder is a file.
    """
    if folder.is_file():
        raise UserError(f"--input {folder} is a file; name the folder to download to")
    make_folder(folder)
    pooch.get_logger().setLevel(logging.WARNING)
    registry = {name: f"sha1:{sha1}" for name, sha1 in files.items()}
    store = pooch.create(path=folder, base_url=address, registry=registry)
    with folder_lock(folder, "downloading"):
        for name in files:
            part = _Part(folder / f"{name}.part", store.get_url(name))
            if (folder / name).exists():
                logger.info("%s is there; checking its SHA-1", folder / name)
            else:
                logger.info("Downloading %s to %s", part.url, folder)
                part.complete()
                logger.info("Checking the SHA-1 of %s", name)
            try:
                store.fetch(name, downloader=partial(_hand_over, part, folder / name))
            except ValueError:  # by pooch; requests has such errors only for bad addresses
                part.remove()
                raise UserError(
                    f"{part.url}: does not have the published SHA-1 and is removed; repeat the "
                    "command, or name another address with --mirror"
                ) from None
            sync_folder(folder)
            part.remove()


def _hand_over(part: _Part, target: Path, url: str, output_file: str, store: pooch.Pooch) -> None:
    """Give pooch the part as what it asks for, if there is no right file, and checks next."""
    if target.exists():
        raise UserError(
            f"{target}: does not have the published SHA-1; move it away, and repeat the command"
        )
    # A second name: pooch removes its file if it is interrupted, and the part must stay.
    Path(output_file).unlink()
    try:
        os.link(part.path, output_file)
    except OSError:  # a file system without such links
        part.path.replace(output_file)


class _Part:
    """What has arrived of a file, and from which version of it."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        # {"url": …, "version": …, "bytes": …}, as the server states them.
        self.record_path = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def remove(self) -> None:
        """Remove it and its record."""
        self.path.unlink(missing_ok=True)
        self.record_path.unlink(missing_ok=True)

    def complete(self) -> None:
        """Append what is missing, in several attempts.

        Raises:
            UserError: too many attempts in a row brought nothing, or there is no such file.
        """
        failures = 0
        while True:
            before = self.size
            try:
                self._append()
                return sync_file(self.path)
            except requests.RequestException as error:
                problem = _describe(error)
                if isinstance(error, ValueError):  # not an address
                    _refuse(self.url, problem)
            failures = 0 if self.size - before >= ENOUGH_BYTES else failures + 1
            if failures > len(PAUSES):
                raise UserError(
                    f"{self.url}: {problem}; gave up after {failures} attempts. Repeat the command "
                    f"to continue after {_amount(self.size)}, or name another address with --mirror"
                )
            logger.warning("%s: %s; continuing after %s", self.url, problem, _amount(self.size))
            sleep(PAUSES[max(0, failures - 1)])

    def _append(self) -> None:
        """Ask for what is missing, and append it.

        Raises:
            requests.RequestException: it has not all arrived.
            UserError: another attempt would not help.
        """
        size, record = self.size, self._read_record()
        if record and size == record.get("bytes"):
            return
        # Bytes as they are, not packed for the transfer.
        headers = {"Accept-Encoding": "identity"}
        if size:
            headers["Range"] = f"bytes={size}-"
        with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            is_changed = record.get("url") == self.url and record.get("version") != version
            has_no_more = response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            if has_no_more and response.headers.get("Content-Range") == f"bytes */{size}":
                return
            if size and (has_no_more or (response.ok and is_changed)):
                logger.warning("%s: changed on the server; starting again", self.url)
                self.remove()
                return self._append()
            _check_status(response)
            start, total = _position(response)
            if start > size:
                raise requests.RequestException("the server sent another part than was asked for")
            if total:
                self._check_space(total - size)
            record = {"url": self.url, "version": version, "bytes": total or None}
            write_text(self.record_path, json.dumps(record))
            self._write(response, start, total)

    def _write(self, response: requests.Response, start: int, total: int) -> None:
        """Write a response from a position on: over what is there, if the server sends all."""
        with (
            open(self.path, "r+b" if self.path.exists() else "wb", buffering=0) as file,
            progress_bar(
                total=total,
                initial=start,
                description=self.path.stem,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            ) as bar,
        ):
            file.seek(start)
            for block in response.iter_content(_BLOCK_BYTES):
                rest = memoryview(block)
                while rest:
                    with name_in_errors(self.path):  # not in those of requests
                        rest = rest[file.write(rest) :]
                bar.update(len(block))
            if total and file.tell() != total:
                raise requests.ConnectionError("the connection broke off")
            file.truncate()

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _check_space(self, missing: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise UserError(
                f"{self.path.parent}: {self.path.stem} needs {_amount(missing)} more, and "
                f"{_amount(free)} are free; make room, or name another folder with --input"
            )


def _check_status(response: requests.Response) -> None:
    """Raise UserError if the server refuses, and RequestException if it may not later."""
    status = response.status_code
    if response.ok:
        return
    problem = f"{status} {response.reason}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TEMPORARY:
        raise requests.HTTPError(problem)
    _refuse(response.url, f"the server answers {problem}")


def _refuse(url: str, problem: str) -> NoReturn:
    raise UserError(f"{url}: {problem}; name another address with --mirror")


def _position(response: requests.Response) -> tuple[int, int]:
    """Return where in the file a response starts, and the size of the file; 0 if unknown."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        stated = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated.strip())
        if not match:
            raise requests.RequestException("the server does not say which part it sends")
        return int(match[1]), 0 if match[2] == "*" else int(match[2])
    return 0, int(response.headers.get("Content-Length", 0))


def _describe(error: requests.RequestException) -> str:
    """Return the reason in a few words: those of requests run over several lines."""
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if error.args and not isinstance(error.args[0], str):
        return "cannot be reached"
    return str(error)


def _amount(size: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"
