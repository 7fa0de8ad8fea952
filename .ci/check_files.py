"""Files above 300 KB, and text that does not end with exactly one line break: python .ci/check_files.py FILES"""

from __future__ import annotations

import sys
from pathlib import Path

LARGEST = 300_000  # bytes


def faults(path: Path) -> list[str]:
    """What is wrong with a file."""
    content = path.read_bytes()
    found = [f"{path}: {len(content) // 1000} KB; data does not belong here"] if len(content) > LARGEST else []
    if b"\0" not in content and content and (not content.endswith(b"\n") or content.endswith(b"\n\n")):
        found.append(f"{path}: it does not end with exactly one line break")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(fault for name in sys.argv[1:] for fault in faults(Path(name))) or None)
