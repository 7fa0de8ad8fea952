"""What `medcoss doctor` looks at: versions, devices, threads, plugins, decoders, disk, and what would be slow."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medcoss_cli.registry import discovery

PACKAGES = (
    "medcoss",
    "torch",
    "torchvision",
    "timm",
    "monai",
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
MODULES = (  # a module before those that import it, so that the one that is broken is named as the cause
    "numpy",
    "torch",
    "torchvision.transforms.v2",
    "huggingface_hub",
    "timm.models.vision_transformer",
    "monai.losses.dice",
    "monai.networks.blocks.unetr_block",
    "monai.networks.nets.flexible_unet",
    "scipy.ndimage",
    "sklearn.cluster",
    "sklearn.manifold",
    "onnx",
    "onnxruntime",
    "onnxruntime.quantization",
    "onnxruntime.transformers.float16",
    "onnxscript",
    "SimpleITK",
    "pydicom.pixels",
    "pylibjpeg",
    "openjpeg",
    "rle",
    "PIL.Image",
    "tokenizers",
    "safetensors.torch",
    "matplotlib.backends.backend_agg",
    "threadpoolctl",
)
OPTIONAL = ("pyarrow.parquet", "highdicom.seg", "h5py", "openpyxl", "zarr", "fsspec")
"""Modules that a verb imports where they are installed: looked at only then."""
PACKAGE_OF = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "openjpeg": "pylibjpeg-openjpeg",
    "rle": "pylibjpeg-rle",
    "huggingface_hub": "huggingface-hub",
}
SPACE = 5  # GiB; the prepared set of 100,000 grey images of 224 x 224 takes as much
GROUPS, GROUP_OF_SELF = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Diagnosis:
    """Facts by heading, and advice in sentences; `imports` is "ok" or the reason for each module that the verbs import."""

    versions: dict[str, str]
    imports: dict[str, str]
    machine: dict[str, str]
    plugins: dict[str, str]
    decoders: dict[str, str]
    disk: dict[str, str]
    slow: list[str]


def diagnose() -> Diagnosis:
    """Look at this machine; nothing is written, nothing leaves it."""
    imports = check_imports(MODULES, OPTIONAL)
    cores, memory = allowed_cores(), allowed_memory()
    gpus, bf16, threads = _torch() if imports["torch"] == "ok" else ([], False, cores)
    plugins: dict[str, str] = {}
    for s in discovery.statuses():
        name = f"{s.name} ({s.distribution})" if s.name in plugins else s.name  # a second one of a taken name
        plugins[name] = f"{s.distribution} {s.version}: {s.status}"
    decoders = _decoders() if imports["pydicom.pixels"] == "ok" else {}
    folders = {name: Path(os.environ.get(variable, name)) for name, variable in _FOLDERS.items()}

    slow = _unusable(imports) + _slow(bool(gpus), bf16, threads, cores, memory)
    slow += [f"the plugin {name} is {s.split(': ', 1)[1]}" for name, s in plugins.items() if not s.endswith(": ok")]
    slow += [f"{name} files cannot be read {s.removeprefix('no ')}" for name, s in decoders.items() if s != "yes"]
    for name in ("runs", "prepared"):
        slow += (
            [f"{name}: the folder is not writable"] if not os.access(_existing_parent(folders[name]), os.W_OK) else []
        )
        slow += [f"{name}: little disk space is left"] if _free(folders[name]) < SPACE else []
    return Diagnosis(
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        imports=imports,
        machine={
            "GPUs": ", ".join(gpus) or "none",
            "CPU cores": str(cores) if cores == os.cpu_count() else f"{cores} of {os.cpu_count()}",
            "torch threads": str(threads),
            "memory": f"{memory:.0f} GiB",
            "bf16": "yes" if bf16 else "no",
        },
        plugins=plugins,
        decoders=decoders,
        disk={name: f"{_free(folder):.0f} GiB free" for name, folder in folders.items()},
        slow=slow,
    )


def check_imports(modules: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str]:
    """Import modules: "ok", or the reason why one cannot be imported, without paths; absent optional ones are left out."""
    states: dict[str, str] = {}
    for name in (*modules, *optional):
        top = name.partition(".")[0]
        try:
            import_module(name)
            states[name] = "ok"
        except Exception as error:  # noqa: BLE001  # a broken library may raise anything while it is imported
            if name in optional and isinstance(error, ModuleNotFoundError) and error.name == top:
                continue
            failed = {other.partition(".")[0]: other for other, state in states.items() if state != "ok"}
            cause = next((failed[part] for part in _importing(error) if part in failed and part != top), None)
            reason = re.sub(r"(?:/[^\s/:'\"]+)+/", "", " ".join(str(error).split()))
            states[name] = f"{cause} is broken" if cause else f"{type(error).__name__}: {reason}"
    return states


def _importing(error: BaseException) -> list[str]:
    """The top packages whose code was running when it was raised."""
    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    return names


def _unusable(imports: Mapping[str, str]) -> list[str]:
    """A sentence for each module that cannot be imported."""
    sentences = []
    for name, state in imports.items():
        package = PACKAGE_OF.get(name.partition(".")[0], name.partition(".")[0])
        fix = f"pip install --force-reinstall {package}"
        if package in ("torch", "torchvision"):  # a CUDA build beside a CPU build of the other fails at import
            fix = "install torch and torchvision from one index: pip install --force-reinstall torch torchvision"
        if state.endswith(" is broken"):
            fix = "repair that first"
        sentences += [f"{name} cannot be used ({state}); {fix}"] if state != "ok" else []
    return sentences


def _torch() -> tuple[list[str], bool, int]:
    """Names of the GPUs, whether bf16 is in hardware, and torch's threads."""
    import torch

    from medcoss_cli.training.distributed import has_bf16

    gpus = [_gpu(torch.cuda.get_device_properties(i)) for i in range(torch.cuda.device_count())]
    return gpus, has_bf16(torch.device("cuda" if gpus else "cpu")), torch.get_num_threads()


def _slow(gpu: bool, bf16: bool, threads: int, cores: int, memory: float) -> list[str]:
    """Advice on the machine; `memory` in GiB."""
    advice = []
    if not gpu and Path("/dev/nvidia0").exists():
        advice.append("there is a GPU, but this torch build cannot use it: install one for your driver (pytorch.org)")
    elif not gpu:
        advice.append(
            "no GPU: the paper's ViT-B needs one; encoders up to about `small`, as in mini, train on this CPU"
        )
    if not bf16:
        advice.append("no bf16 in hardware: train.precision=auto means fp32 here")
    if threads < cores and "OMP_NUM_THREADS" in os.environ:  # else torch has chosen one thread for each physical core
        advice.append(f"torch uses {threads} of {cores} cores: unset OMP_NUM_THREADS, or set it to {cores}")
    if threads > cores:
        advice.append(f"torch uses {threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}")
    if memory < 8:
        advice.append(f"{memory:.0f} GiB of memory: lower train.batch, or raise train.accumulate")
    return advice


def allowed_cores() -> int:
    """CPU cores that this process may use: of the machine, by its affinity, and by the quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for text in _control_groups("cpu.max"):  # "200000 100000": microseconds of CPU time in each period, or "max 100000"
        quota, _, period = text.partition(" ")
        if quota.isdigit():
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def allowed_memory() -> float:
    """GiB that this process may use: of the machine, and by the limits of its control groups."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([memory, *(int(text) for text in _control_groups("memory.max") if text.isdigit())]) / 2**30


def _control_groups(name: str) -> Iterator[str]:
    """A file of this process's control group (version 2) and of those above it, as containers and Slurm set them."""
    with contextlib.suppress(OSError):
        line = next((line for line in GROUP_OF_SELF.read_text().splitlines() if line.startswith("0::/")), "0::/")
        group = GROUPS / line[4:]
        for folder in (group, *group.parents):
            if folder.is_relative_to(GROUPS) and (folder / name).is_file():
                yield (folder / name).read_text().strip()


_FOLDERS = {"runs": "", "prepared": "MEDCOSS_PREPARED", "data": "MEDCOSS_DATA"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _decoders() -> dict[str, str]:
    """Which compressed DICOM files can be read, by decoding a small picture of each kind."""
    from medcoss_cli.kit.readers import codecs

    return codecs.decoders()


def _gpu(properties: Any) -> str:
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def _existing_parent(folder: Path) -> Path:
    """The folder, or the one above it that already exists."""
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _free(folder: Path) -> float:
    return shutil.disk_usage(_existing_parent(folder)).free / 2**30
