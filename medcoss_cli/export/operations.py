"""The operations of an ONNX file, found in its bytes: before anything is computed, and without the package onnx."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

GRAPH, FUNCTIONS = 7, 25
"""Fields of a ModelProto; the numbers are those of onnx.proto."""
NODES_OF_GRAPH, NODES_OF_FUNCTION = 1, 7
OPERATION, ATTRIBUTES = 4, 5
"""Of a NodeProto."""
GRAPHS_OF_ATTRIBUTE = (6, 11)
DEEPEST = 100
"""Messages in one another, as protobuf has it."""


def operations(path: Path) -> set[str]:
    """Names of all operations, those in functions and in the branches of others too. Raises: ValueError for other bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        whole = memoryview(mapped)
        try:
            return set(_operations(whole))
        finally:
            whole.release()


def _operations(model: memoryview) -> Iterator[str]:
    waiting = [(part, NODES_OF_GRAPH, 0) for part in _parts(model, GRAPH)]
    waiting += [(part, NODES_OF_FUNCTION, 0) for part in _parts(model, FUNCTIONS)]
    while waiting:
        graph, field, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        for node in _parts(graph, field):
            for name in _parts(node, OPERATION):
                yield bytes(name).decode("utf-8", "replace")
            for attribute in _parts(node, ATTRIBUTES):
                waiting += [(part, NODES_OF_GRAPH, depth + 1) for part in _parts(attribute, *GRAPHS_OF_ATTRIBUTE)]


def _parts(message: memoryview, *wanted: int) -> Iterator[memoryview]:
    """The fields of these numbers that have a length: texts, bytes and messages."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(message, at)
                if length > len(message) - at:
                    raise ValueError("it is truncated")
                if key >> 3 in wanted:
                    yield message[at : at + length]
                at += length
            case 5:
                at += 4
            case _:
                raise ValueError("it is no ONNX file")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is truncated")
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file")
