"""ResNet cut after layer3 or layer4 at stride 8, without its last ReLU and with all BatchNorm frozen."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novelseg.backbones.contract import MEAN, STD, Backbone
from novelseg.backbones.grid import AlignedGrid
from novelseg.backbones.weights import load_strictly

# Number of blocks in layer1, …, layer4.
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
LAST = ("layer3", "layer4")
STEMS = ("torchvision", "msra", "deep")


class FrozenBatchNorm(nn.Module):
    """BatchNorm whose statistics and affine parameters do not change, not even in training mode.

    It has the same state as torch's BatchNorm but is not a subclass, so that code that replaces BatchNorm layers, such
    as the conversion to synchronised statistics, does not affect it.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))  # for weight files

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the stored statistics."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


Norm = type[nn.BatchNorm2d] | type[FrozenBatchNorm]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False)


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions (ResNet-18, -34)."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        *,
        stride: int,
        dilation: int,
        final_relu: bool,
        msra: bool,
        norm: Norm,
    ) -> None:
        super().__init__()
        del msra  # the stride of a basic block is in its first convolution in both layouts
        self.conv1, self.bn1 = _conv(inputs, planes, 3, stride, dilation), norm(planes)
        self.conv2, self.bn2 = _conv(planes, planes, 3, 1, dilation), norm(planes)
        self.downsample = _shortcut(inputs, planes, stride, norm)
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, planes, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.downsample(x)
        return F.relu(y) if self.final_relu else y


class Bottleneck(nn.Module):
    """Residual block of 1×1, 3×3 and 1×1 convolutions (ResNet-50, -101)."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        *,
        stride: int,
        dilation: int,
        final_relu: bool,
        msra: bool,
        norm: Norm,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if msra else (1, stride)
        self.conv1, self.bn1 = _conv(inputs, planes, 1, first), norm(planes)
        self.conv2, self.bn2 = _conv(planes, planes, 3, second, dilation), norm(planes)
        self.conv3, self.bn3 = _conv(planes, 4 * planes, 1), norm(4 * planes)
        self.downsample = _shortcut(inputs, 4 * planes, stride, norm)
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 4·planes, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        return F.relu(y) if self.final_relu else y


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    """Return the shortcut of a block: the identity, or a 1×1 convolution if the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), norm(outputs))


class ResNet(nn.Module):
    """ResNet up to layer3 or layer4, from normalised RGB (B, 3, H, W) to features (B, C, h, w), which may be negative.

    h and w are ⌈H/8⌉ and ⌈W/8⌉, or may be one less with the msra stem, which pools without padding.

    Parameters
    ----------
    arch
        A key of :data:`BLOCKS`.
    stem
        ``torchvision``: one 7×7 convolution; ``msra``: the same, but max-pooling is without padding and in ceil mode,
        and the stride of a bottleneck is in its first 1×1 convolution; ``deep``: three 3×3 convolutions.
    width
        Number of channels of the 3×3 convolutions in layer1; 64 in the papers.
    last
        The last layer, ``layer3`` or ``layer4``; nothing after it is built.
    frozen
        Whether BatchNorm is frozen, as in every encoder; it is trained in pretraining only.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, *, arch: str, stem: str, width: int, last: str = "layer3", frozen: bool = True) -> None:
        super().__init__()
        norm: Norm = FrozenBatchNorm if frozen else nn.BatchNorm2d
        block = BasicBlock if arch in ("resnet18", "resnet34") else Bottleneck
        if stem not in STEMS:
            raise ValueError(f"the stem is '{stem}'; expected one of {', '.join(STEMS)}")
        if last not in LAST:
            raise ValueError(f"the last layer is '{last}'; expected one of {', '.join(LAST)}")
        self.deep, self.msra = stem == "deep", stem == "msra"
        if self.deep:
            self.conv1, self.bn1 = _conv(3, width, 3, 2), norm(width)
            self.conv2, self.bn2 = _conv(width, width, 3), norm(width)
            self.conv3, self.bn3 = _conv(width, 2 * width, 3), norm(2 * width)
        else:
            self.conv1, self.bn1 = _conv(3, width, 7, 2), norm(width)
        self.pool = nn.MaxPool2d(3, 2, 0, ceil_mode=True) if self.msra else nn.MaxPool2d(3, 2, 1)
        inputs = 2 * width if self.deep else width
        layers = 3 if last == "layer3" else 4
        # layer3 and layer4 stay at stride 8: each stride is replaced by dilation, after the first block of its layer.
        for number in range(layers):
            count, stride, dilation = BLOCKS[arch][number], (1, 2, 1, 1)[number], (1, 1, 2, 4)[number]
            first_dilation = (1, 1, 1, 2)[number]
            planes = width * 2**number
            blocks = []
            for position in range(count):
                blocks.append(
                    block(
                        inputs,
                        planes,
                        stride=stride if position == 0 else 1,
                        dilation=dilation if position else first_dilation,
                        final_relu=number < layers - 1 or position < count - 1,
                        msra=self.msra,
                        norm=norm,
                    )
                )
                inputs = planes * block.expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.layers = layers
        self.channels = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Compute features at stride 8."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.deep:
            x = F.relu(self.bn2(self.conv2(x)))
            x = F.relu(self.bn3(self.conv3(x)))
        x = self.pool(x)
        for layer in self.stages():
            x = layer(x)
        return x

    def stages(self) -> list[nn.Module]:
        """Return layer1, …, up to the last layer."""
        return [self.get_submodule(f"layer{number + 1}") for number in range(self.layers)]


class ResNetBackbone(Backbone):
    """ResNet cut after layer3 or layer4, with normalisation of the input, (B, 3, H, W) RGB in [0, 1]; stride 8."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, arch: str, stem: str, width: int, last: str = "layer3") -> None:
        super().__init__()
        # The channels-last memory layout is the fastest for convolutions on tensor cores and in oneDNN.
        self.resnet = ResNet(arch=arch, stem=stem, width=width, last=last)
        self.resnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels, self.grid, self.level = self.resnet.channels, AlignedGrid(8), last
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features at stride 8; see :meth:`Backbone.forward`."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.resnet(normalised)
        return features

    def parts(self) -> list[nn.Module]:
        """Return the stem, layer1, layer2, layer3 and, where it is built, layer4."""
        stem = nn.ModuleList(part for name, part in self.resnet.named_children() if not name.startswith("layer"))
        return [stem, *self.resnet.stages()]

    def load_pretrained(self, path: Path) -> None:
        """Load a weight file of any common layout; layers after the last one are ignored."""
        load_strictly(self.resnet, path)
