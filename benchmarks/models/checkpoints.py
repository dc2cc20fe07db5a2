"""A network's weights as a file: read, put into the network, written, told apart."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import write_atomically


def read_state(path: str | Path) -> Mapping[str, Tensor]:
    """The state_dict stored at `path`.

    Raises:
        BenchmarkError: no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise BenchmarkError(f"--weights {path} does not exist; give the file that holds the network's state_dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on a file that is none of its own
        raise BenchmarkError(f"--weights {path} could not be read as a PyTorch checkpoint: {error}") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise BenchmarkError(
            f"--weights {path} does not hold a state_dict (names to Tensors): it holds a {type(state).__name__}; a "
            "state_dict is needed"
        )
    return state


def load_weights(model: nn.Module, state: Mapping[str, Tensor], path: str | Path, what: str) -> nn.Module:
    """The model with these weights (of any floating dtype), in evaluation mode.

    Args:
        path, what: where the state is from, and what the model is, for the message.

    Raises:
        BenchmarkError: it is the state_dict of another network.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BenchmarkError(f"--weights {path} does not fit {what}: {error}") from error
    return model.eval()


def checksum(model: nn.Module) -> str:
    """Of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that no reader ever sees half of it, whoever else writes at the same time.

    Raises:
        BenchmarkError: it can't be written; nothing of it is left then.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())
