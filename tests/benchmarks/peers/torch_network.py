"""The network of `configs/report.py` in PyTorch, channels last, with weights handed over by name.

Run by `compare.py` in an environment of its own. Arrays are named by their place in our variables, joined by '/'.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN = (103.939, 116.779, 123.68)  # of BGR pixels, as Keras' weights want them


class Norm(nn.BatchNorm2d):
    """Batch norm; a frozen one keeps to its stored statistics."""

    def __init__(self, channels: int, frozen: bool, epsilon: float) -> None:
        super().__init__(channels, eps=epsilon, momentum=0.1)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Norm":
        return super().train(mode and not self.frozen)


class ConvNormAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.norm = Norm(outputs, False, 1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class Block(nn.Module):
    """x + project(concatenate(1x1, 3x3, 5x5, pool)); the four branches begin with one 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.branches = ConvNormAct(channels, channels, 1)
        self.three, self.five_a, self.five_b = (ConvNormAct(width, width, 3) for _ in range(3))
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, three, five, pool = self.branches(x).chunk(4, dim=1)
        branches = [one, self.three(three), self.five_b(self.five_a(five)), F.avg_pool2d(pool, 3, 1, 1)]
        return F.relu(x + self.project(torch.cat(branches, dim=1)), inplace=True)


class Reduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        pooled = min(inputs, outputs // 2)
        self.pooled = nn.Conv2d(inputs, pooled, 1, bias=False) if inputs > outputs // 2 else None
        self.patches = nn.Conv2d(inputs, outputs - pooled, 2, 2, bias=False)
        self.norm = Norm(outputs, False, 1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        pooled = F.max_pool2d(x, 2)
        if self.pooled is not None:
            pooled = self.pooled(pooled)
        return F.relu(self.norm(torch.cat([pooled, self.patches(x)], dim=1)), inplace=True)


class Bottleneck(nn.Module):
    """The first block of a stage without a stride, as conv2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ModuleList([nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 256, 1)])
        self.norm = nn.ModuleList([Norm(c, False, 1.001e-5) for c in (64, 64, 256)])
        self.shortcut, self.shortcut_norm = nn.Conv2d(64, 256, 1), Norm(256, False, 1.001e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm[0](self.conv[0](x)), inplace=True)
        y = F.relu(self.norm[1](self.conv[1](y)), inplace=True)
        return F.relu(self.shortcut_norm(self.shortcut(x)) + self.norm[2](self.conv[2](y)), inplace=True)


class Backbone(nn.Module):
    """ResNet-50 v1, its first 3 layers frozen or its first 20 trained (report section 11)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        frozen = layers == 3
        self.conv1, self.norm1 = nn.Conv2d(3, 64, 7, 2, 3), Norm(64, frozen, 1.001e-5)
        self.requires_grad_(not frozen)
        if layers == 20:
            self.block = Bottleneck()
            self.conv, self.norm = nn.Conv2d(256, 64, 1), Norm(64, False, 1.001e-5)
        self.layers = layers
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.flip(1) - self.mean).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        if self.layers == 20:
            x = F.relu(self.norm(self.conv(self.block(F.max_pool2d(x, 3, 2, 1)))), inplace=True)
        return x


class Network(nn.Module):
    def __init__(self, layers: int, widths: tuple[int, ...], blocks: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.backbone = Backbone(layers)
        stages: list[nn.Module] = []
        inputs = 64
        for width, count in zip(widths, blocks, strict=True):
            stages += [Reduction(inputs, width), *(Block(width) for _ in range(count))]
            inputs = width
        self.stages, self.logits, self.dropout = nn.ModuleList(stages), nn.Linear(inputs, 3), dropout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.backbone(images)
        for stage in self.stages:
            x = stage(x)
        return self.logits(F.dropout(x.mean((2, 3)), self.dropout, self.training))


def load(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies every array to where it belongs."""

    def put(place: torch.Tensor, value: np.ndarray) -> None:
        with torch.no_grad():
            place.copy_(torch.from_numpy(value).view(place.shape))

    def convolution(module: nn.Conv2d, name: str) -> None:
        kernel = arrays[f"params/{name}/kernel"]
        if kernel.ndim == 2:  # a matrix over channels, or over patches of them
            height, width = module.kernel_size
            kernel = kernel.reshape(height, width, -1, kernel.shape[-1])
        put(module.weight, kernel.transpose(3, 2, 0, 1).copy())
        if module.bias is not None:
            put(module.bias, arrays[f"params/{name}/bias"])

    def norm(module: Norm, name: str) -> None:
        put(module.weight, arrays[f"params/{name}/scale"])
        put(module.bias, arrays[f"params/{name}/bias"])
        put(module.running_mean, arrays[f"batch_stats/{name}/mean"])
        put(module.running_var, arrays[f"batch_stats/{name}/var"])

    backbone = network.backbone
    convolution(backbone.conv1, "backbone/conv1_conv")
    norm(backbone.norm1, "backbone/conv1_bn")
    if backbone.layers == 20:
        block = "backbone/conv2_block1"
        for i in range(3):
            convolution(backbone.block.conv[i], f"{block}_{i + 1}_conv")
            norm(backbone.block.norm[i], f"{block}_{i + 1}_bn")
        convolution(backbone.block.shortcut, f"{block}_0_conv")
        norm(backbone.block.shortcut_norm, f"{block}_0_bn")
        convolution(backbone.conv, "backbone/conv2_block2_1_conv")
        norm(backbone.norm, "backbone/conv2_block2_1_bn")
    stage = block_number = 0
    for module in network.stages:
        if isinstance(module, Reduction):
            stage, block_number = stage + 1, 0
            name = f"head/stage{stage}_reduce"
            if module.pooled is not None:
                convolution(module.pooled, f"{name}/pooled")
            convolution(module.patches, f"{name}/patches/conv")
            norm(module.norm, f"{name}/norm")
            continue
        block_number += 1
        name = f"head/stage{stage}_block{block_number}"
        for part in ("branches", "three", "five_a", "five_b"):
            convolution(getattr(module, part).conv, f"{name}/{part}/conv")
            norm(getattr(module, part).norm, f"{name}/{part}/norm")
        convolution(module.project, f"{name}/project")
    put(network.logits.weight, arrays["params/head/logits/kernel"].T.copy())
    put(network.logits.bias, arrays["params/head/logits/bias"])
