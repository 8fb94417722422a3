"""Checkpoints: folders of tensors that are complete or absent, hashed, and refused with a reason when damaged.

``folder/step_00000240/{segmenter.pt, optim.pt, …, manifest.json}``. Each is written as ``.step_00000240.tmp-<pid>``,
every file forced to the disk, the manifest last, and renamed; a kill at any moment leaves the last good one.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from esl_dist import atomic
from esl_dist.distributed import collectives
from esl_dist.engine.checkpoint import retention
from esl_dist.runs import CheckpointFolder, CheckpointsFolder, manifest


def save(folder: Path, step: int, tensors: Mapping[str, Any], meta: Mapping[str, Any], keep: int) -> Path:
    """Write ``folder/step_<step>`` and drop what retention no longer keeps.

    Args:
        tensors: name → state dict (nested dicts and lists of tensors, numbers and strings): one file ``<name>.pt``
        each. meta: JSON values that ``load`` gives back.
        keep: newest checkpoints that stay, beside the one marked best.

    Returns:
        The folder. If it exists and is valid it is left as it is: the same step of a deterministic run is the same
        state.

    Raises:
        OSError, RuntimeError: the disk refused; every checkpoint that was there is still there, and nothing
        half-written is.
    """
    assert keep >= 1 and tensors
    there = CheckpointsFolder(folder).at(step)
    path = there.path
    folder.mkdir(parents=True, exist_ok=True)
    retention.clean(folder)
    if path.is_dir() and not verify(path):
        return path
    aside = folder / f".{path.name}.tmp-{os.getpid()}"
    try:
        aside.mkdir()
        making = CheckpointFolder(aside)
        files = {making.tensors(n).name: _write_tensors(making.tensors(n), value) for n, value in tensors.items()}
        with atomic.writing(making.manifest) as file:
            file.write(manifest.encode(step, files, meta))
        if path.is_dir():
            retention.remove(path)  # damaged: a run that resumed from an older one has come here again
        atomic.publish_folder(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    retention.retain(folder, step, keep)
    return path


def verify(path: Path) -> list[str]:
    """Problems of a checkpoint folder, one sentence each, naming the file; empty when every byte is as written."""
    return manifest.problems(path)


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why each newer one does not. Folders left aside by a kill are no
    checkpoints.
    """
    rejected: list[str] = []
    for _, path in reversed(retention.steps(folder)):
        found = verify(path)
        if not found:
            return path, rejected
        rejected.append(f"checkpoint {path} was rejected: {'; '.join(found)}")
    return None, rejected


def load(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], dict[str, Any]]:
    """The state by name, on ``device``, and the meta data (``step`` included) of a checkpoint, after verifying it.

    Raises:
        ValueError: it does not verify.
    """
    found = verify(path)
    if found:
        raise ValueError("; ".join(found))
    content = manifest.read(path)
    tensors = {
        Path(name).stem: torch.load(path / name, map_location=device, weights_only=True) for name in content["files"]
    }
    return tensors, {"step": content["step"], "code_version": content["code_version"], **content["meta"]}


def resume(folder: Path) -> tuple[Path | None, list[str]]:
    """``newest_valid`` as rank 0 sees it, on every rank; leftovers of a kill are swept away.

    Raises:
        ValueError: on every rank, when rank 0 cannot read the folder.
    """
    decision: dict[str, Any] = {}
    if collectives.is_main():
        try:
            retention.clean(folder)
            path, rejected = newest_valid(folder)
            decision = {"path": str(path) if path else None, "rejected": rejected}
        except OSError as error:
            decision = {"error": f"{folder}: checkpoints cannot be read ({error})"}
    decision = collectives.broadcast_json(decision)
    if "error" in decision:
        raise ValueError(decision["error"])
    return (Path(decision["path"]) if decision["path"] else None), list(decision["rejected"])


def file_sha256(path: Path, name: str) -> str:
    """SHA-256 of a file of a checkpoint folder, as its manifest has it: nothing is hashed."""
    return str(manifest.read(path)["files"][name]["sha256"])


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state dict, in the order of the names: equal for bit-equal
    weights only.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_tensors(path: Path, value: Any) -> dict[str, Any]:
    with atomic.writing(path) as file:
        buffered = io.BufferedWriter(file, 1 << 20)
        try:
            torch.save(value, buffered)
            buffered.flush()
        except RuntimeError:
            if file.failure is not None:
                raise file.failure from None
            raise
        buffered.detach()
    return {"sha256": file.sha256, "size": file.size}
