"""Architecture and weight layouts (A1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.recognise import recognise
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.resnet import ResNet
from novelseg.backbones.weights import load_strictly
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.formats.network import save_network
from novelseg.formats.record import BackboneSpec, EncoderRecord

ROOT = Path(__file__).parent.parent


def parameters(net: torch.nn.Module) -> int:
    """Number of parameters, BatchNorm's affine part included."""
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("arch", "stem", "count"),
    [
        ("resnet50", "torchvision", 8_543_296),
        ("resnet50", "msra", 8_543_296),
        ("resnet50", "deep", 8_667_072),
        ("resnet101", "deep", 27_659_200),
    ],
)
def test_parameter_counts_are_the_papers(arch: str, stem: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(ResNet(arch=arch, stem=stem, width=64)) == count


@pytest.mark.parametrize("stem", ["torchvision", "msra", "deep"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_features_have_stride_eight_and_either_sign(arch: str, stem: str) -> None:
    net = ResNet(arch=arch, stem=stem, width=8)
    features = net(torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (1, net.channels, *((12, 8) if stem == "msra" else (13, 9)))  # msra pools without padding
    assert features.min() < 0 < features.max()  # no last ReLU


def test_stride_sits_where_the_layout_says() -> None:
    strides = {}
    for stem in ("torchvision", "msra"):
        block = ResNet(arch="resnet50", stem=stem, width=8).layer2[0]
        strides[stem] = [block.conv1.stride[0], block.conv2.stride[0]]  # type: ignore[index]
    assert strides == {"torchvision": [1, 2], "msra": [2, 1]}


def test_layer3_dilates_all_blocks_but_the_first() -> None:
    for stem in ("torchvision", "msra", "deep"):
        layer = ResNet(arch="resnet50", stem=stem, width=8).layer3
        assert [block.conv2.dilation[0] for block in layer] == [1, 2, 2, 2, 2, 2]  # type: ignore[union-attr, index]
        assert {block.conv2.stride[0] for block in layer} == {1}  # type: ignore[index]


@pytest.mark.parametrize("stem", ["torchvision", "msra", "deep"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_layer4_is_dilated_and_keeps_the_stride(arch: str, stem: str) -> None:
    net, cut = (ResNet(arch=arch, stem=stem, width=8, last=last) for last in ("layer4", "layer3"))
    x = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))
    features = net(x)
    assert features.shape == (1, net.channels, *cut(x).shape[2:])
    assert net.channels == 2 * cut.channels
    assert features.min() < 0 < features.max()  # the last ReLU is left out here, and only here
    blocks = [*net.stages()[2].children(), *net.stages()[3].children()]
    assert [block.final_relu for block in blocks] == [True] * (len(blocks) - 1) + [False]
    convolutions = [part for part in net.stages()[3].modules() if isinstance(part, torch.nn.Conv2d)]
    assert {part.dilation[0] for part in convolutions if part.kernel_size[0] == 3} == {2, 4}
    assert {part.stride[0] for part in convolutions} == {1}


def test_a_file_with_layer4_loads_strictly_into_either_cut(tmp_path: Path) -> None:
    net = ResNet(arch="resnet50", stem="torchvision", width=4, last="layer4")
    generator = torch.Generator().manual_seed(9)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    state = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    save_file(state | {"fc.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    for last in ("layer3", "layer4"):
        fresh = ResNet(arch="resnet50", stem="torchvision", width=4, last=last)
        load_strictly(fresh, tmp_path / "w.safetensors")
        assert all(torch.equal(value, net.state_dict()[name]) for name, value in fresh.state_dict().items())
    assert recognise(tmp_path / "w.safetensors").arch == "resnet50"
    del state["layer4.2.bn3.bias"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"missing layer4.2.bn3.bias"):
        load_strictly(net, tmp_path / "w.safetensors")
    save_file({name: value for name, value in state.items() if "layer4" not in name}, tmp_path / "w.safetensors")
    with pytest.raises(
        InputError, match=r"ends after layer3, and cam.features is layer4; .* fetch --what resnet50-layer4"
    ):
        load_strictly(net, tmp_path / "w.safetensors")


def test_batch_norm_stays_frozen_in_training() -> None:
    net = ResNet(arch="resnet18", stem="torchvision", width=8).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.randn(2, 3, 33, 33)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.bn1.weight.grad is None
    assert net.conv1.weight.grad is not None


def small(stem: str) -> ResNet:
    """A small network with weights of its own."""
    net = ResNet(arch="resnet18", stem=stem, width=4)
    generator = torch.Generator().manual_seed(7)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return net


def sequential(name: str) -> str:
    """Name of a deep-stem entry where the stem is one Sequential."""
    stem = {
        "conv1": "conv1.0",
        "bn1": "conv1.1",
        "conv2": "conv1.3",
        "bn2": "conv1.4",
        "conv3": "conv1.6",
        "bn3": "bn1",
    }
    head, _, rest = name.partition(".")
    return f"{stem[head]}.{rest}" if head in stem else name


@pytest.mark.parametrize(
    "layout", ["torchvision npz", "torchvision pth", "deep flat", "deep sequential", "deep wrapped"]
)
def test_every_layout_of_weight_files_loads(layout: str, tmp_path: Path) -> None:
    stem, kind = layout.split()
    net = small(stem)
    state = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    extra = {"layer4.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(2)}  # what the cut leaves over
    path = tmp_path / {"npz": "w.npz", "pth": "w.pth"}.get(kind, "w.safetensors")
    if kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in (state | extra).items()})
    elif kind == "pth":
        torch.save({"state_dict": state | extra}, path)
    elif kind == "sequential":
        save_file({sequential(name): value for name, value in state.items()} | extra, path)
    elif kind == "wrapped":
        save_file({f"module.backbone.{name}": value for name, value in state.items()}, path)
    else:
        save_file(state | extra, path)
    fresh = ResNet(arch="resnet18", stem=stem, width=4)
    load_strictly(fresh, path)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", "missing layer3.1.bn2.bias"),
        ("unexpected", "unexpected layer3.9.conv1.weight"),
        ("shape", r"conv1.weight is \(4, 3, 3, 3\), not \(4, 3, 7, 7\)"),
    ],
)
def test_a_key_too_few_too_many_or_of_another_shape_is_refused(change: str, sentence: str, tmp_path: Path) -> None:
    state = {name: value for name, value in small("torchvision").state_dict().items() if "num_batches" not in name}
    if change == "missing":
        del state["layer3.1.bn2.bias"]
    elif change == "unexpected":
        state["layer3.9.conv1.weight"] = torch.zeros(1)
    else:
        state["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=sentence):
        load_strictly(ResNet(arch="resnet18", stem="torchvision", width=4), tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", ["object", "garbage", "text"])
def test_damaged_files_and_pickles_that_would_execute_code_are_refused(content: str, tmp_path: Path) -> None:
    if content == "object":
        torch.save({"w": Path("x")}, tmp_path / "w.pth")
    else:
        (tmp_path / "w.pth").write_bytes(b"half" if content == "text" else bytes(range(256)))
    with pytest.raises(
        InputError, match="holds a Python object" if content == "object" else "not a readable weight file"
    ):
        load_strictly(small("torchvision"), tmp_path / "w.pth")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "arch", "stem"),
    [
        ("resnet18_torchvision_layer3.npz", "resnet18", "torchvision"),
        ("resnet50_msra_layer3_fp16conv.npz", "resnet50", "msra"),
    ],
)
def test_real_imagenet_weights_load_with_no_key_left_over(real_data: Path, name: str, arch: str, stem: str) -> None:
    net = ResNet(arch=arch, stem=stem, width=64)
    load_strictly(net, real_data / "weights" / name)
    assert float(net.bn1.running_var.min()) > 0  # type: ignore[union-attr]


SMALL_RECORD = EncoderRecord(
    network="encoder",
    stage="baseline",
    fold=0,
    classes=["disc", "ring"],
    arch="resnet18",
    stem="deep",
    width=4,
    precision="fp32",
    resolution="33 px, resize",
    iterations=1,
    seed=0,
    scale=10.0,
)


def test_encoder_files_go_round(tmp_path: Path) -> None:
    net = new_backbone(BackboneSpec("resnet18", "deep", 4))
    save_network(tmp_path / "e.safetensors", net, SMALL_RECORD)
    again, read = load_encoder(tmp_path / "e.safetensors")
    images = torch.rand(1, 3, 40, 32)
    assert read == SMALL_RECORD
    assert torch.equal(again(images), net.eval()(images))


@pytest.mark.processes
def test_encoder_files_have_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from novelseg.backbones.registry import new_backbone\n"
        "from novelseg.formats.network import save_network\n"
        "from tests.test_models import SMALL_RECORD\n"
        "torch.manual_seed(0); net = new_backbone(SMALL_RECORD.backbone)\n"
        "save_network(Path(sys.argv[1]), net, SMALL_RECORD)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "there")], check=True, cwd=ROOT)
    with torch.random.fork_rng(), mock.patch.object(sys, "argv", ["-c", str(tmp_path / "here")]):
        exec(script, {})
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
