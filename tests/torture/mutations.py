"""Repeatable damage: all random choices come from the `random.Random` that is passed in."""

from __future__ import annotations

import copy
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

# Numbers that lengths and counts are overwritten with.
EXTREMES = (
    0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
    2**40, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip

# Values in place of what a parser expects.
HOSTILE = (
    None, True, False, 0, -1, 1, 2, 10**9, -(10**9), 2**63, 10**30, 0.0, -0.5, 1e-300, 1e308,
    math.inf, -math.inf, math.nan, "", " ", "all", "training", "0", "-1", "nan",
    "../../outside", "/outside", "C:\\outside", "a/b", "..", ".", "con", "NUL", "com1.txt", "dot.",
    "a\0b", "a\nb", "a\r\nb: c", "\x1b[31mred\x1b[0m", "\u202eevil", "\udcff", "=1+1", "{0}{}",
    "x" * 5000,
    "$\\frac{$", "<script>alert(1)</script>", "\"'><img src=x>",
    [], {}, [[]], [None], ["a", 1], {"a": {"b": {}}}, [0] * 1000, ["../x", "../x"], {"": 0},
)  # fmt: skip


def damaged(data: bytes, random: Random) -> bytes:
    """A few changes that know nothing of the format."""
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        data = random.choice(_DAMAGES)(data, random) or b"\0"
    return data


def _flip(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def _splice(data: bytes, random: Random) -> bytes:
    (start, end), at = (
        sorted(random.choices(range(len(data) + 1), k=2)),
        random.randrange(len(data)),
    )
    return data[:at] + data[start:end][:4096] + data[at + random.choice((0, end - start)) :]


def _duplicate(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    part = data[start : start + random.choice((1, 4, 64, 1024))]
    return data[:start] + part * random.choice((2, 3, 20)) + data[start + len(part) :]


def _remove(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.choice((1, 2, 4, 64, 1024)) :]


def _overwrite(data: bytes, random: Random) -> bytes:
    # Headers are short, and what they say is what matters: half of the time there.
    at = random.randrange(min(len(data), random.choice((64, 512, len(data)))))
    width = random.choice((1, 2, 4, 8))
    number = random.choice(EXTREMES) % 2 ** (8 * width)
    number = number.to_bytes(width, random.choice(("big", "little")))
    return data[:at] + number + data[at + width :]


def _blank(data: bytes, random: Random) -> bytes:
    start, length = random.randrange(len(data)), random.choice((4, 64, 4096))
    return data[:start] + random.choice((b"\0", b"\xff", b"A")) * length + data[start + length :]


_DAMAGES = (
    _flip,
    _flip,
    _cut,
    _splice,
    _duplicate,
    _remove,
    _overwrite,
    _overwrite,
    _overwrite,
    _blank,
)


def with_field(data: bytes, fields: dict[str, tuple[int, str]], random: Random) -> bytes:
    """One or two header fields, by name (offset, struct format), set to extremes."""
    data = bytearray(data)
    for name in random.sample(sorted(fields), random.choice((1, 1, 2))):
        offset, form = fields[name]
        limit = 2 ** (8 * struct.calcsize(form))
        struct.pack_into(form, data, offset, random.choice(EXTREMES) % limit)
    return bytes(data)


WAV_FIELDS = {
    "riff size": (4, "<I"), "format size": (16, "<I"), "format": (20, "<H"), "channels": (22, "<H"),
    "rate": (24, "<I"), "bytes a second": (28, "<I"), "block": (32, "<H"), "bits": (34, "<H"),
    "size": (40, "<I"),
}  # fmt: skip
AU_FIELDS = {
    name: (4 * k, ">I")
    for k, name in enumerate(("magic", "offset", "size", "encoding", "rate", "channels"))
}
# Block sizes, frame sizes; then 20 bits of rate, 3 of channels, 5 of bits, 36 of samples.
FLAC_FIELDS = {
    "kind": (4, ">I"), "least block": (8, ">H"), "largest block": (10, ">H"),
    "frame sizes": (12, ">I"),
    "rate": (18, ">I"), "samples": (21, ">I"), "samples, low": (22, ">I"),
}  # fmt: skip


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg stream."""
    pages = []
    while data[:4] == b"OggS" and len(data) > 27:
        length = 27 + data[26] + sum(data[27 : 27 + data[26]])
        pages.append(data[:length])
        data = data[length:]
    return pages


def ogg_of(pages: list[bytes], serial: int = 1) -> bytes:
    """Join pages into a stream with that serial number (random in encoders) and valid checksums."""
    stream = b""
    for one in pages:
        page = one[:14] + struct.pack("<I", serial) + one[18:22] + bytes(4) + one[26:]
        stream += page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:]
    return stream


def _ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _ogg_row(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


_OGG_TABLE = [_ogg_row(byte) for byte in range(256)]


def altered_ogg(data: bytes, random: Random) -> bytes:
    """Pages reordered, doubled, missing or with damaged contents, with valid checksums."""
    pages = ogg_pages(data)
    number = random.randrange(min(len(pages), random.choice((2, 3, len(pages)))))
    page = pages[number]
    kind = random.randrange(5)
    if kind == 0:
        pages[number : number + 1] = [page, page]
    elif kind == 1:
        del pages[number]
    elif kind == 2:
        random.shuffle(pages)
    elif kind == 3:
        pages[number] = page[:6] + struct.pack("<Q", random.choice(EXTREMES) % 2**64) + page[14:]
    else:
        head = 27 + page[26]
        body = damaged(page[head:] or b"\0", random)[: len(page) - head]
        pages[number] = page[:head] + body.ljust(len(page) - head, b"\0")
    return ogg_of(pages)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and contents of each chunk."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Chunks as a file, with right lengths and checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def png_header(
    width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0
) -> tuple[bytes, bytes]:
    """An IHDR chunk."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


RARE_CHUNKS = tuple(b"PLTE tRNS acTL fcTL fdAT iCCP gAMA eXIf pHYs IDAT xxxx".split())


def altered_png(data: bytes, random: Random) -> bytes:
    """Chunks changed, moved, doubled or dropped, each with its right checksum."""
    chunks = png_chunks(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        number = random.randrange(len(chunks))
        kind, body = chunks[number]
        change = random.randrange(6)
        if change == 0:
            chunks[number] = (kind, damaged(body or b"\0", random))
        elif change == 1:
            chunks.insert(random.randrange(len(chunks)), (kind, body))
        elif change == 2 and len(chunks) > 1:
            del chunks[number]
        elif change == 3:
            sizes = (0, 1, 64, 65535, 100_000, 2**31 - 1)
            chunks[0] = png_header(
                random.choice(sizes), random.choice(sizes), random.choice((1, 2, 4, 8, 16, 3)),
                random.choice((0, 2, 3, 4, 6, 5)), random.choice((0, 1, 2)),
            )  # fmt: skip
        elif change == 4:
            body = random.randbytes(random.choice((0, 1, 4, 26, 300)))
            chunks.insert(random.randrange(1, len(chunks) + 1), (random.choice(RARE_CHUNKS), body))
        else:
            chunks.insert(1, random.choice((_text_bomb, _settings))(random))
    return png_of(chunks)


def _text_bomb(random: Random) -> tuple[bytes, bytes]:
    packed = zlib.compress(b"A" * random.choice((1000, 2**20, 2**25)))
    return random.choice(
        (
            (b"zTXt", b"spectrogram\0\0" + packed),
            (b"iTXt", b"spectrogram\0\1\0\0\0" + packed),
            (b"tEXt", b"spectrogram\0" + b"[" * 200_000),
            (b"iCCP", b"profile\0\0" + packed),
        )
    )


def _settings(random: Random) -> tuple[bytes, bytes]:
    import json

    usual = {
        "sample_rate": 22050,
        "n_fft": 2048,
        "hop_length": 1024,
        "n_mels": 64,
        "n_frames": 64,
        "f_min": 0.0,
    }
    text = json.dumps(altered({**usual, "f_max": 8000.0, "top_db": 80.0}, random))
    return b"tEXt", b"spectrogram\0" + text.encode("ascii")


def altered(tree: Any, random: Random) -> Any:
    """A nested value with one or two of its parts replaced, removed, renamed, doubled or added."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2))):
        parents = [tree] if isinstance(tree, (dict, list)) else []
        while parents:  # down from the top, each level with the same chance
            parent = parents.pop()
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            key = random.choice(keys) if keys else None
            child = parent[key] if keys else None
            if isinstance(child, (dict, list)) and child and random.random() < 0.7:
                parents.append(child)
                continue
            _alter(parent, key, random)
    return tree


def _alter(parent: Any, key: Any, random: Random) -> None:
    change = random.randrange(8)
    if key is None or change == 0:
        value = copy.deepcopy(random.choice(HOSTILE))
        parent.append(value) if isinstance(parent, list) else parent.update(
            {str(value)[:50]: value}
        )
    elif change == 1:
        del parent[key]
    elif change == 2 and isinstance(parent, dict):
        parent[random.choice(("", "x", "__class__", str(key).upper(), f" {key}"))] = parent.pop(key)
    elif change == 3 and isinstance(parent, list):
        parent.extend([parent[key]] * random.choice((1, 100)))
    elif change == 4:
        parent[key] = [parent[key]]
    else:
        parent[key] = copy.deepcopy(random.choice(HOSTILE))


def altered_text(text: str, random: Random) -> bytes:
    """Lines and cells moved, doubled, dropped or replaced; sometimes in another encoding."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 2, 5))):
        number = random.randrange(len(lines))
        change = random.randrange(7)
        value = str(random.choice(HOSTILE))
        if change == 0:
            lines.insert(number, lines[random.randrange(len(lines))])
        elif change == 1 and len(lines) > 1:
            del lines[number]
        elif change == 2:
            cells = lines[number].split(",")
            cells[random.randrange(len(cells))] = value
            lines[number] = ",".join(cells)
        elif change == 3:
            lines[number] += random.choice(
                (",", '"', "'", "\r", "\t", "\0", ":", "x" * 200_000, value)
            )
        elif change == 4:
            at = random.randrange(len(lines[number]) + 1)
            lines[number] = (
                lines[number][:at] + random.choice('",:\r\0{}[]&*!#-?|>%@`') + lines[number][at:]
            )
        elif change == 5:
            lines[number] = value
        else:
            lines[number] = lines[number].partition(random.choice(",:"))[0]
    encoding = random.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    return "\n".join(lines).encode(encoding, "replace" if encoding != "utf-8" else "surrogatepass")


def altered_zip(data: bytes, random: Random) -> bytes:
    """Entries of a zip file damaged, dropped, doubled, renamed or compressed; valid checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    number = random.choice([0, 0, random.randrange(len(entries))])
    name, body = entries[number]
    compression = zipfile.ZIP_STORED
    change: Callable | int = random.randrange(7)
    if change == 0:
        del entries[number]
    elif change == 1:
        entries[number] = (
            random.choice(("../x", "archive/data.pkl", "archive/constants.pkl", "x")),
            body,
        )
    elif change == 2:
        compression = zipfile.ZIP_DEFLATED
        entries[number] = (name, body + bytes(random.choice((0, 2**20, 2**24))))
    elif change == 3:
        entries.append((name + "2", body))
    else:
        entries[number] = (name, damaged(body or b"\0", random))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, body in entries:
            archive.writestr(zipfile.ZipInfo(name), body, compression)
    return file.getvalue()
