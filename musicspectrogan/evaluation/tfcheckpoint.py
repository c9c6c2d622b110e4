"""Read the variables of a TensorFlow checkpoint, without TensorFlow.

A checkpoint of one shard is two files. `.data-00000-of-00001` holds the values, one variable after
the other. `.index` says where, in LevelDB's table format: blocks of sorted keys, each of which
gives only what differs from the key before, and one block with the places of the others. The keys
are the names of variables, and the values are protocol buffers (BundleEntryProto).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# A table ends with the places of two blocks, padded with zeros, and a fixed number.
FOOTER_BYTES = 48
MAGIC = bytes.fromhex("57fb808b247547db")
# Field numbers of BundleEntryProto, of its TensorShapeProto, and of that one's dimensions.
DTYPE, SHAPE, OFFSET, SIZE = 1, 2, 4, 5
DIMENSION = 2
LENGTH = 1
FLOAT32 = 1  # of TensorFlow's DataType

# The fields of a protocol buffer by number, each with its values in order.
Message = dict[int, list[int | bytes]]


class CheckpointError(Exception):
    """The files are not a checkpoint of one shard, or are damaged."""


def read_checkpoint(index: bytes, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Read the variables of 32-bit floats by name; others are left out.

    Args:
        index, data: contents of the two files.

    Raises:
        CheckpointError: they are not a checkpoint of one shard, or are damaged.
    """
    try:
        entries = {key.decode(): _message(value) for key, value in _table(index) if key}
        return {
            name: _variable(entry, data)
            for name, entry in entries.items()
            if _number(entry, DTYPE) == FLOAT32
        }
    except (IndexError, ValueError) as error:
        raise CheckpointError(f"not a TensorFlow checkpoint: {error}") from None


def _variable(entry: Message, data: bytes) -> npt.NDArray[np.float32]:
    (shape,) = entry.get(SHAPE, [b""])
    dimensions = [_message(each) for each in _message(shape).get(DIMENSION, [])]
    start, size = _number(entry, OFFSET), _number(entry, SIZE)
    values = np.frombuffer(data[start : start + size], dtype="<f4")
    return values.reshape([_number(dimension, LENGTH) for dimension in dimensions])


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in order."""
    footer = table[-FOOTER_BYTES:]
    if not footer.endswith(MAGIC):
        raise ValueError("the index has another format")
    position = 0
    for _ in range(2):  # the place of the first block, which TensorFlow leaves empty
        _, position = _varint(footer, position)
    for _, place in _block(table, footer[position:]):
        yield from _block(table, place)


def _block(table: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block at a place, an offset and a size."""
    offset, position = _varint(place, 0)
    size, _ = _varint(place, position)
    block = table[offset : offset + size]
    if table[offset + size]:
        raise ValueError("its index is compressed")
    # A block ends with positions to start reading at, and their number.
    end = size - 4 * (1 + int.from_bytes(block[-4:], "little"))
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        more, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + more]
        position += more
        yield key, block[position : position + length]
        position += length


def _message(encoded: bytes | int) -> Message:
    """Fields of a protocol buffer."""
    if isinstance(encoded, int):
        raise ValueError("a field has another type")
    fields: Message = {}
    position = 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        value: int | bytes
        match tag & 7:
            case 0:
                value, position = _varint(encoded, position)
            case 2:
                size, position = _varint(encoded, position)
                value, position = encoded[position : position + size], position + size
            case 5:
                value, position = encoded[position : position + 4], position + 4
            case wire_type:
                raise ValueError(f"a field has the unknown type {wire_type}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(message: Message, field: int) -> int:
    """Value of a number; 0 is left out of protocol buffers."""
    value = message.get(field, [0])[-1]
    if isinstance(value, bytes):
        raise ValueError("a field has another type")
    return value


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the position after it."""
    number = shift = 0
    while True:
        byte = encoded[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
