"""Files of the safetensors format: a table of names, types and places, and the numbers behind it.

There is nothing to execute.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor

SUFFIX = ".safetensors"
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LONGEST_TABLE = 100_000_000  # bytes; the format's own limit


def is_safetensors(path: Path) -> bool:
    """Whether a file of any name begins as the format does: the table's length, then the table."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= LONGEST_TABLE


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    Raises:
        ValueError: truncated, or no such file; without the path, which the caller adds.
    """
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(LONGEST_TABLE, len(content) - 8):
        raise ValueError("its table is not where it should be")
    try:
        table = json.loads(content[8 : 8 + length])
        found = {name: _tensor(content, 8 + length, entry) for name, entry in table.items() if name != "__metadata__"}
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"its table is damaged ({type(error).__name__})") from None
    return found


def _tensor(content: bytearray, start: int, entry: dict[str, list[int]]) -> Tensor:
    kind, shape, (begin, end) = TYPES[str(entry["dtype"])], entry["shape"], entry["data_offsets"]
    count = math.prod(shape)
    if not 0 <= begin <= end <= len(content) - start or end - begin != count * kind.itemsize:
        raise ValueError("a tensor's numbers are missing")
    if not count:
        return torch.empty(shape, dtype=kind)
    return (
        torch.frombuffer(content, dtype=torch.uint8, count=end - begin, offset=start + begin)
        .clone()
        .view(kind)
        .view(shape)
    )
