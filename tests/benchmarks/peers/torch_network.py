"""The networks of our configs in PyTorch, channels last, with weights handed over by name.

Run by `compare.py` in an environment of its own. Arrays are named by their place in our variables, joined by '/'.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN = (103.939, 116.779, 123.68)  # of BGR pixels, as Keras' weights want them
EPSILON = 1.001e-5
START = 0.2  # distance to each side that an untrained head of boxes predicts


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


class Backbone(nn.Module):
    """The rows of our table of layers; frozen ones keep their statistics."""

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.layers, self.modules_by_name = layers, nn.ModuleDict()
        channels = {"": 3}
        for layer in layers:
            name, inputs = layer["name"], channels[layer["sources"][0]]
            channels[name] = layer["features"] or inputs
            if layer["kind"] == "conv":
                module = nn.Conv2d(inputs, layer["features"], layer["size"], layer["stride"], layer["padding"])
            elif layer["kind"] == "bn":
                module = Norm(inputs, not layer["trained"], EPSILON)
            else:
                continue
            self.modules_by_name[name] = module.requires_grad_(layer["trained"])
        self.channels = channels[layers[-1]["name"]]
        self.last_use = {source: i for i, layer in enumerate(layers) for source in layer["sources"]}
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = {"": (images.flip(1) - self.mean).contiguous(memory_format=torch.channels_last)}
        for i, layer in enumerate(self.layers):
            x, *rest = (values[source] for source in layer["sources"])
            match layer["kind"]:
                case "relu":
                    x = F.relu(x, inplace=True)
                case "max_pool":
                    x = F.max_pool2d(x, layer["size"], layer["stride"], layer["padding"])
                case "add":
                    x = x + rest[0]
                case _:
                    x = self.modules_by_name[layer["name"]](x)
            values[layer["name"]] = x
            for source in {source for source in layer["sources"] if self.last_use[source] == i}:
                del values[source]
        return x if self.layers[-1]["kind"] == "relu" else F.relu(x, inplace=True)


class Network(nn.Module):
    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(layers)
        stages: list[nn.Module] = []
        inputs = self.backbone.channels
        for width, count in zip(widths, blocks, strict=True):
            stages += [Reduction(inputs, width), *(Block(width) for _ in range(count))]
            inputs = width
        self.stages, self.logits, self.dropout = nn.ModuleList(stages), nn.Linear(inputs, 3), dropout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.backbone(images)
        for stage in self.stages:
            x = stage(x)
        return self.logits(F.dropout(x.mean((2, 3)), self.dropout, self.training))


class BoxVoting(nn.Module):
    """The network that finds the cervix: photographs to boxes, the mean over each and its mirror image."""

    def __init__(self, layers: Sequence[Mapping[str, Any]], width: int) -> None:
        super().__init__()
        self.backbone = Backbone(layers)
        self.conv1 = ConvNormAct(self.backbone.channels, width, 1)
        self.conv2, self.conv3 = ConvNormAct(width, width, 3), ConvNormAct(width, width, 3)
        self.context, self.votes = nn.Linear(width, width), nn.Conv2d(width, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        straight, mirrored = self._boxes(torch.cat([images, images.flip(3)])).chunk(2)
        left, top, right, bottom = mirrored.unbind(1)
        back = torch.stack([1 - right, top, 1 - left, bottom], dim=1)
        return ((straight + back) / 2).clamp(0, 1)

    def _boxes(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.backbone(images))
        x = x + self.conv2(x)
        x = x + self.conv3(x)
        x = x + F.relu(self.context(x.mean((2, 3))))[:, :, None, None]
        raw = self.votes(x)
        height, width = raw.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x = (y + 0.5) / height, (x + 0.5) / width
        distances = F.softplus(raw[:, 1:] + math.log(math.expm1(START)))
        votes = torch.stack([x, y, x, y]) + distances * torch.tensor([-1.0, -1, 1, 1])[:, None, None]
        weights = raw[:, 0].flatten(1).softmax(1)
        return (votes.flatten(2) * weights[:, None]).sum(2)


Arrays = Mapping[str, np.ndarray]


def put(place: torch.Tensor, value: np.ndarray) -> None:
    with torch.no_grad():
        place.copy_(torch.from_numpy(value).view(place.shape))


def put_kernel(module: nn.Conv2d | nn.Linear, arrays: Arrays, name: str) -> None:
    kernel = arrays[f"params/{name}/kernel"]
    if isinstance(module, nn.Linear):
        put(module.weight, kernel.T.copy())
    else:
        if kernel.ndim == 2:  # a matrix over channels, or over patches of them
            height, width = module.kernel_size
            kernel = kernel.reshape(height, width, -1, kernel.shape[-1])
        put(module.weight, kernel.transpose(3, 2, 0, 1).copy())
    if module.bias is not None:
        put(module.bias, arrays[f"params/{name}/bias"])


def put_norm(module: Norm, arrays: Arrays, name: str) -> None:
    put(module.weight, arrays[f"params/{name}/scale"])
    put(module.bias, arrays[f"params/{name}/bias"])
    put(module.running_mean, arrays[f"batch_stats/{name}/mean"])
    put(module.running_var, arrays[f"batch_stats/{name}/var"])


def load_backbone(backbone: Backbone, arrays: Arrays) -> None:
    for name, module in backbone.modules_by_name.items():
        (put_kernel if isinstance(module, nn.Conv2d) else put_norm)(module, arrays, f"backbone/{name}")


def load(network: Network, arrays: Arrays) -> None:
    """Copies every array to where it belongs."""
    load_backbone(network.backbone, arrays)
    stage = block_number = 0
    for module in network.stages:
        if isinstance(module, Reduction):
            stage, block_number = stage + 1, 0
            name = f"head/stage{stage}_reduce"
            if module.pooled is not None:
                put_kernel(module.pooled, arrays, f"{name}/pooled")
            put_kernel(module.patches, arrays, f"{name}/patches/conv")
            put_norm(module.norm, arrays, f"{name}/norm")
            continue
        block_number += 1
        name = f"head/stage{stage}_block{block_number}"
        for part in ("branches", "three", "five_a", "five_b"):
            put_kernel(getattr(module, part).conv, arrays, f"{name}/{part}/conv")
            put_norm(getattr(module, part).norm, arrays, f"{name}/{part}/norm")
        put_kernel(module.project, arrays, f"{name}/project")
    put_kernel(network.logits, arrays, "head/logits")


def load_boxes(network: BoxVoting, arrays: Arrays) -> None:
    """Likewise."""
    load_backbone(network.backbone, arrays)
    for name in ("conv1", "conv2", "conv3"):
        put_kernel(getattr(network, name).conv, arrays, f"head/{name}/conv")
        put_norm(getattr(network, name).norm, arrays, f"head/{name}/norm")
    put_kernel(network.context, arrays, "head/context")
    put_kernel(network.votes, arrays, "head/votes")


def augment(images: torch.Tensor, affines: np.ndarray) -> torch.Tensor:
    """Bilinear resampling, on the device.

    Args:
      images: float32 [b 3 h w].
      affines: float32 [b 2 3], from places (y, x) about the centre, in pixels, to those where to look.
    """
    height, width = images.shape[2:]
    (yy, yx, ty), (xy, xx, tx) = np.moveaxis(affines, 0, -1)
    rows = [[xx, xy * height / width, 2 * tx / width], [yx * width / height, yy, 2 * ty / height]]
    theta = torch.from_numpy(np.moveaxis(np.array(rows, np.float32), -1, 0).copy())
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
