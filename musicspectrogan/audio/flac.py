"""How long a FLAC is by its last frame, for files whose header does not know. RFC 9639, 8.2 and 9.1."""

from __future__ import annotations

# Bytes of STREAMINFO, and where in it 64 bits have the rate, the channels and the samples.
INFO_BYTES = 34
_FIELDS_AT = 10
_MOST_SAMPLES = 2**36 - 1

# How frames begin: blocks of one size, and of several.
_SYNCS = (b"\xff\xf8", b"\xff\xf9")
_LONGEST_HEAD_BYTES = 16

# Samples of a block by four bits; by two others they stand behind the frame's number, as some rates do.
_BLOCKS = {1: 192, **{2 + k: 576 << k for k in range(4)}, **{8 + k: 256 << k for k in range(8)}}
_BLOCK_IN_8_BITS, _BLOCK_IN_16_BITS = 6, 7
_RATE_BYTES = {12: 1, 13: 2, 14: 2}


def with_true_length(info: bytes, tail: bytes) -> bytes:
    """STREAMINFO with the samples that the last frame that begins in `tail` shows, where those are more.

    Encoders that write into a pipe leave a zero there.
    """
    if len(info) < INFO_BYTES:
        return info
    fields = int.from_bytes(info[_FIELDS_AT : _FIELDS_AT + 8], "big")
    total, channels, block_size = (
        fields & _MOST_SAMPLES,
        1 + (fields >> 41 & 7),
        int.from_bytes(info[:2], "big"),
    )
    at = len(tail)
    while (at := max(tail.rfind(sync, 0, at) for sync in _SYNCS)) >= 0:
        end = _end_of(tail[at : at + _LONGEST_HEAD_BYTES], channels, block_size)
        if end is not None:
            fields += max(0, end - total)
            return info[:_FIELDS_AT] + fields.to_bytes(8, "big") + info[_FIELDS_AT + 8 :]
    return info


def _end_of(head: bytes, channels: int, block_size: int) -> int | None:
    """How many samples end with the frame that begins with these bytes; None if none does.

    Args:
        block_size: samples of all frames but the last, where frames and not samples are counted.
    """
    if len(head) < _LONGEST_HEAD_BYTES or head[3] & 1:
        return None
    block, rate, kind = head[2] >> 4, head[2] & 15, head[3] >> 4
    if (
        block == 0
        or rate == 15
        or (kind != channels - 1 and not (channels == 2 and 8 <= kind <= 10))
    ):
        return None
    leading_ones = 8 - (head[4] ^ 0xFF).bit_length()
    place = 4 + max(1, leading_ones)
    if leading_ones in (1, 8) or any(byte >> 6 != 2 for byte in head[5:place]):
        return None
    number = head[4] & 0x7F >> leading_ones
    for byte in head[5:place]:
        number = number << 6 | byte & 0x3F
    samples = _BLOCKS.get(block, 0)
    if block in (_BLOCK_IN_8_BITS, _BLOCK_IN_16_BITS):
        width = block - _BLOCK_IN_8_BITS + 1
        samples = 1 + int.from_bytes(head[place : place + width], "big")
        place += width
    place += _RATE_BYTES.get(rate, 0)
    if _checksum(head[:place]) != head[place]:
        return None
    counts_samples = head[1] & 1
    return samples + (number if counts_samples else number * block_size)


def _checksum(data: bytes) -> int:
    """CRC-8 with polynomial x^8 + x^2 + x + 1."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value
