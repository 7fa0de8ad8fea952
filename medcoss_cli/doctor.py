"""What `medcoss doctor` looks at: versions, devices, threads, plugins, decoders, disk, and what would be slow."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medcoss_cli import discovery

PACKAGES = (
    "medcoss",
    "torch",
    "timm",
    "numpy",
    "scikit-learn",
    "pydicom",
    "pylibjpeg",
    "SimpleITK",
    "pillow",
    "tokenizers",
    "safetensors",
    "onnx",
    "onnxruntime",
    "onnxscript",
)


@dataclass(frozen=True)
class Diagnosis:
    """Facts by heading, and advice in sentences."""

    versions: dict[str, str]
    machine: dict[str, str]
    plugins: dict[str, str]
    decoders: dict[str, str]
    disk: dict[str, str]
    slow: list[str]


def diagnose() -> Diagnosis:
    """Look at this machine; nothing is written, nothing leaves it."""
    import torch

    from medcoss_cli.devices import has_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    device = torch.device("cuda" if gpus else "cpu")
    bf16 = has_bf16(device)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    plugins = {s.name: f"{s.distribution} {s.version}: {s.status}" for s in discovery.statuses()}
    decoders = _decoders()
    disk = {name: _free(Path(os.environ.get(variable, name))) for name, variable in _FOLDERS.items()}

    slow = []
    if not gpus:
        slow.append("no GPU: the paper's ViT-B wants one; encoders up to about `small`, as in mini, train on this CPU")
    if not bf16:
        slow.append("no bf16 in hardware: train.precision=auto means fp32 here")
    if threads < cores:
        slow.append(f"torch uses {threads} of {cores} cores: unset OMP_NUM_THREADS, or set it to {cores}")
    if threads > cores:
        slow.append(f"torch uses {threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}")
    if memory < 8:
        slow.append(f"{memory:.0f} GiB of memory: lower train.batch, or raise train.accumulate")
    slow += [f"the plugin {name} is {s.split(': ', 1)[1]}" for name, s in plugins.items() if not s.endswith(": ok")]
    slow += [f"{name} files cannot be read: {state}" for name, state in decoders.items() if state != "yes"]
    return Diagnosis(
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        machine={
            "GPUs": ", ".join(gpus) or "none",
            "CPU cores": str(cores),
            "torch threads": str(threads),
            "memory": f"{memory:.0f} GiB",
            "bf16": "yes" if bf16 else "no",
        },
        plugins=plugins,
        decoders=decoders,
        disk=disk,
        slow=slow,
    )


_FOLDERS = {"runs": "", "prepared": "MEDCOSS_PREPARED", "data": "MEDCOSS_DATA"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _decoders() -> dict[str, str]:
    """Which compressed DICOM files can be read."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    kinds: dict[str, Any] = {
        "DICOM JPEG": uid.JPEGBaseline8Bit,
        "DICOM JPEG 2000": uid.JPEG2000Lossless,
        "DICOM JPEG-LS": uid.JPEGLSLossless,
        "DICOM RLE": uid.RLELossless,
    }
    needs = {"DICOM JPEG-LS": "pip install pyjpegls"}
    return {
        name: "yes" if get_decoder(kind).is_available else f"no ({needs.get(name, 'reinstall medcoss')})"
        for name, kind in kinds.items()
    }


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.absolute().parent
    writable = "" if os.access(folder, os.W_OK) else ", not writable"
    return f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free{writable}"
