"""Vision transformers beside a slow reference, their strict loading and their grid; ``transformers`` if installed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from novelseg.backbones import vit
from novelseg.backbones.contract import MEAN, STD
from novelseg.backbones.designs import GATED, KNOWN_VALUES, VITS, ViTDesign
from novelseg.backbones.grid import PatchGrid, ReducedPatchGrid
from novelseg.backbones.recognise import recognise
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.vit import ViT, ViTBackbone
from novelseg.core.errors import InputError
from novelseg.fetch.cache import cached_weights
from novelseg.fetch.catalogue import CATALOGUE
from novelseg.formats.record import BackboneSpec
from novelseg.inference.segmenter import Segmenter
from tests.commands import novelseg
from tests.pictures import disc

SMALL = {
    "dinov2": ViTDesign(14, 24, 2, 2),
    "dinov2 with registers": ViTDesign(14, 24, 2, 2, registers=3),
    "dinov3": ViTDesign(16, 24, 2, 2, registers=2, rotary=True),
    "dinov3 plus": ViTDesign(16, 24, 2, 2, registers=2, rotary=True, gated=True),
}
PATCHES = ((3, 5), (4, 2), (41, 3))


def randomised(module: torch.nn.Module, seed: int = 3) -> None:
    """Draw all parameters, factors and biases included, so that nothing is 0 or 1 by chance."""
    draws = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.data = (0.3 if value.ndim > 1 else 0.7) * torch.randn(value.shape, generator=draws)


def network(name: str, **options: object) -> ViTBackbone:
    net = ViTBackbone(arch=name, design=SMALL[name], side=4096, **options)  # type: ignore[arg-type]
    randomised(net)
    return net.eval()


def cubic(x: float, a: float) -> float:
    """Keys' cubic kernel."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def axis_weights(cells: int, *, registers: bool) -> np.ndarray:
    """Weights of 37 positions for each cell of an axis, from the definitions of both interpolations."""
    weights = np.zeros((cells, 37))
    for cell in range(cells):
        if registers:  # antialiased: the kernel is as wide as a cell
            wide = max(37 / cells, 1.0)
            centre = 37 / cells * (cell + 0.5)
            values = [cubic((j + 0.5 - centre) / wide, -0.5) for j in range(37)]
            weights[cell] = np.array(values) / sum(values)
        else:
            source = (cell + 0.5) * 37 / (cells + 0.1) - 0.5
            for tap in range(math.floor(source) - 1, math.floor(source) + 3):
                weights[cell, min(max(tap, 0), 36)] += cubic(source - tap, -0.75)
    return weights


def slow_tokens(net: ViTBackbone, image: Tensor, after: int) -> Tensor:
    """Tokens of an image (3, H, W) of whole patches after a block, without norm, one by one in double precision."""
    design, state = net.design, {name: value.double() for name, value in net.vit.state_dict().items()}
    patch, width = design.patch, design.channels // design.heads
    epsilon = 1e-5 if design.rotary else 1e-6
    normalised = (image.double() - torch.tensor(MEAN).double()[:, None, None]) / torch.tensor(STD)[:, None, None]
    rows, columns = image.shape[1] // patch, image.shape[2] // patch

    def linear(x: Tensor, name: str, mask: Tensor | float = 1.0) -> Tensor:
        mapped: Tensor = state[f"{name}.weight"] @ x + state[f"{name}.bias"] * mask
        return mapped

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean()
        scaled = centred / torch.sqrt((centred**2).mean() + epsilon)
        result: Tensor = scaled * state[f"{name}.weight"] + state[f"{name}.bias"]
        return result

    tokens = [state["cls_token"][0, 0]]
    for row in range(rows):
        for column in range(columns):
            pixels = normalised[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            kernel = state["patch_embed.proj.weight"]
            tokens.append((kernel * pixels).sum((1, 2, 3)) + state["patch_embed.proj.bias"])
    if not design.rotary:
        down, across = (torch.from_numpy(axis_weights(n, registers=design.registers > 0)) for n in (rows, columns))
        learned = state["pos_embed"][0]
        tokens[0] = tokens[0] + learned[0]
        grid = learned[1:].unflatten(0, (37, 37))
        for row in range(rows):
            for column in range(columns):
                weights = down[row][:, None] * across[column][None]
                number = 1 + row * columns + column
                tokens[number] = tokens[number] + (weights[..., None] * grid).sum((0, 1))
    registers = state.get("storage_tokens", state.get("register_tokens", torch.zeros(1, 0, 1)))
    tokens = [tokens[0], *registers[0], *tokens[1:]]
    first = 1 + design.registers

    def turned(x: Tensor, number: int) -> Tensor:
        """Rotate the pairs (i, i + d/2) of a head's channels as complex numbers."""
        if not design.rotary or number < first:
            return x
        row, column = divmod(number - first, columns)
        y, across = (row + 0.5) / rows * 2 - 1, (column + 0.5) / columns * 2 - 1
        periods = [100 ** (2 * i / (width / 2)) for i in range(width // 4)]
        angles = [2 * math.pi * position / period for position in (y, across) for period in periods]
        pairs = torch.complex(x[: width // 2], x[width // 2 :])
        spun = pairs * torch.polar(torch.ones(width // 2).double(), torch.tensor(angles).double())
        return torch.cat((spun.real, spun.imag))

    for block in range(after):
        name = f"blocks.{block}"
        mask = state.get(f"{name}.attn.qkv.bias_mask", torch.ones(3 * design.channels).double())
        parts = [linear(normed(x, f"{name}.norm1"), f"{name}.attn.qkv", mask).chunk(3) for x in tokens]
        mixed = [torch.zeros(design.channels).double() for _ in tokens]
        for head in range(design.heads):
            own = slice(head * width, (head + 1) * width)
            q = [turned(part[0][own], number) for number, part in enumerate(parts)]
            k = torch.stack([turned(part[1][own], number) for number, part in enumerate(parts)])
            v = torch.stack([part[2][own] for part in parts])
            for number, query in enumerate(q):
                weights = torch.exp(k @ query / math.sqrt(width))
                mixed[number][own] = weights @ v / weights.sum()
        for number, value in enumerate(mixed):
            x = tokens[number] + state[f"{name}.ls1.gamma"] * linear(value, f"{name}.attn.proj")
            inner = normed(x, f"{name}.norm2")
            if design.gated:
                gate = linear(inner, f"{name}.mlp.w1")
                hidden = gate * torch.sigmoid(gate) * linear(inner, f"{name}.mlp.w2")
                y = linear(hidden, f"{name}.mlp.w3")
            else:
                hidden = linear(inner, f"{name}.mlp.fc1")
                y = linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f"{name}.mlp.fc2")
            tokens[number] = x + state[f"{name}.ls2.gamma"] * y
    return torch.stack(tokens)


def compare(name: str) -> None:
    """Compare features of two images at each size with the slow reference."""
    net = network(name)
    for rows, columns in PATCHES[: 3 if name.startswith("dinov2") else 2]:
        size = (rows * net.design.patch, columns * net.design.patch)
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(rows))
        with torch.no_grad():
            fast = net(images)
            (raw,) = net.vit((images - net.mean) / net.std, (2,))
        for image, ours, features in zip(images, raw, fast, strict=True):
            slow = slow_tokens(net, image, 2)
            assert torch.allclose(ours.double(), slow, atol=2e-4, rtol=1e-4)
            norm = net.vit.norm
            last = F.layer_norm(slow, (24,), norm.weight.double(), norm.bias.double(), norm.eps)
            patches = last[1 + net.design.registers :].T.unflatten(1, (rows, columns))
            assert torch.allclose(features.double(), patches, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_features_are_those_of_the_slow_reference(name: str) -> None:
    compare(name)


def _without_offset(cells: int, offset: float, antialias: bool) -> Tensor:
    del offset
    return INTERPOLATION(cells, 0.0, antialias)


def _without_antialias(cells: int, offset: float, antialias: bool) -> Tensor:
    del antialias
    return INTERPOLATION(cells, offset, False)


def _neighbouring_pairs(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate channels 2i and 2i + 1 instead of i and i + d/2."""
    order = torch.arange(x.shape[-1]).unflatten(0, (2, -1)).T.flatten()
    return ROTATE(x[..., order], rotation)[..., order.argsort()]


def _unmasked(layer: vit.MaskedBiasLinear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


INTERPOLATION, ROTATE = vit._interpolation, vit.rotate


@pytest.mark.parametrize(
    ("name", "target", "attribute", "mutation"),
    [
        ("dinov2", vit, "_interpolation", _without_offset),
        ("dinov2 with registers", vit, "_interpolation", _without_antialias),
        ("dinov3", vit, "rotate", _neighbouring_pairs),
        ("dinov3", vit, "_epsilon", lambda design: 1e-2),
        ("dinov3 plus", F, "silu", F.gelu),
    ],
    ids=["offset", "antialias", "pairs", "epsilon", "activation"],
)
def test_the_comparison_notices_mutations(
    name: str, target: object, attribute: str, mutation: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, attribute, mutation)
    with pytest.raises(AssertionError):
        compare(name)


def test_the_bias_mask_of_the_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network("dinov3")
    for layer in net.vit.modules():
        if isinstance(layer, vit.MaskedBiasLinear):
            layer.bias_mask[:] = torch.arange(72) % 3 / 2
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (ours,) = net.vit((image[None] - net.mean) / net.std, (2,))
        assert torch.allclose(ours[0].double(), slow_tokens(net, image, 2), atol=2e-4, rtol=1e-4)
        monkeypatch.setattr(vit.MaskedBiasLinear, "forward", _unmasked)
        (other,) = net.vit((image[None] - net.mean) / net.std, (2,))
    assert (other - ours).abs().max() > 0.01


def test_layers_are_concatenated_with_or_without_the_norm() -> None:
    image = torch.rand(3, 28, 42, generator=torch.Generator().manual_seed(2))
    for norm in (True, False):
        net = network("dinov2", layers=(2, 1), norm=norm)
        expected = []
        for block in (2, 1):
            tokens = slow_tokens(net, image, block).float()[1:]
            expected.append(net.vit.norm(tokens) if norm else tokens)
        with torch.no_grad():
            features = net(image[None])[0]
        assert features.shape == (48, 2, 3) == (net.channels, *net.grid.cells((28, 42)))
        assert torch.allclose(features, torch.cat(expected, 1).T.unflatten(1, (2, 3)), atol=2e-4, rtol=1e-4)
        assert net.level == f"block 2+1{' and norm' if norm else ''}"
    net = network("dinov2", layers=(1,), norm=False)
    used = {id(value) for value in net.parameters() if value.requires_grad}
    net(image[None]).sum().backward()
    assert used == {id(value) for value in net.parameters() if value.grad is not None}
    for layers in ((0,), (3,), (1, 1)):
        with pytest.raises(InputError, match=r"encoder\.layers is .*expected different numbers from 1 to 2"):
            network("dinov2", layers=layers)


@pytest.mark.parametrize("name", SMALL)
def test_the_parts_contain_all_weights(name: str) -> None:
    net = network(name)
    parts = net.parts()
    held = [id(value) for part in parts for value in part.parameters()]
    assert len(parts) == 3
    assert sorted(held) == sorted(id(value) for value in net.parameters())


@pytest.mark.parametrize("size", [(41, 53), (14, 6), (35, 20), (48, 31), (7, 100)])
def test_images_of_any_size_have_the_cells_of_the_grid(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(4))
    for name, design in SMALL.items():
        net = network(name)
        rows, columns = net.grid.cells(size)
        assert (rows, columns) == PatchGrid(design.patch).cells(size)
        padded = torch.zeros(3, rows * design.patch, columns * design.patch)
        for u in range(padded.shape[1]):
            for v in range(padded.shape[2]):
                padded[:, u, v] = image[0, :, min(u, size[0] - 1), min(v, size[1] - 1)]
        with torch.no_grad():
            assert torch.allclose(net(image), net(padded[None]), atol=1e-5)
            assert net.tokens(image).shape[1] == 1 + design.registers + rows * columns


@pytest.mark.parametrize(("patch", "side"), [(14, 112), (16, 100)])
def test_larger_images_are_reduced_to_the_longest_side(patch: int, side: int) -> None:
    grid, plain = ReducedPatchGrid(patch, side=side), PatchGrid(patch)
    draws = np.random.default_rng(5)
    for size in [(side, side), (side + 1, 20), (300, 200), *map(tuple, draws.integers(1, 400, (200, 2)).tolist())]:
        cells, (resampled, whole) = grid.cells(size), grid.network_size(size)
        assert max(whole) <= side + patch
        assert whole == (cells[0] * patch, cells[1] * patch)
        if max(size) <= side:
            assert (cells, resampled) == (plain.cells(size), size)
        for pixels, count, inner in zip(size, cells, resampled, strict=True):
            positions = grid.positions(count, pixels)
            if inner == pixels:
                assert count == plain.cells((pixels, 1))[0]
                assert np.array_equal(positions, plain.positions(count, pixels))
            else:
                row = torch.arange(count, dtype=torch.float32)[None, None]
                expected = F.interpolate(row, pixels, mode="linear", align_corners=False)[0, 0]
                assert np.allclose(positions, expected.numpy(), atol=1e-4)
            for finer in (grid, grid.finer(4)):
                fine = finer.steps * (count - 1) + 1
                centres = finer.centres(fine, pixels)
                assert centres.min() >= 0
                assert centres.max() < pixels
                spacing = (finer.positions(fine, pixels)[centres] - np.arange(fine))[1:-1]
                assert np.abs(spacing).max(initial=0.0) <= finer.steps * max(count / pixels, 1 / patch) / 2 + 1e-9
    net = ViTBackbone(arch="dinov2", design=SMALL["dinov2"], side=112).eval()
    images = torch.rand(1, 3, 300, 20, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        assert net(images).shape[-2:] == net.grid.cells((300, 20)) == (8, 1)
        by_hand = F.interpolate(images, (112, 20), mode="bilinear", antialias=True)[..., :14]
        assert torch.allclose(net(images), net(by_hand), atol=1e-5)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with the names and shapes of two official ones, and random values."""
    files = {}
    for arch in ("dinov2-vits14", "dinov2-vits14-reg", "dinov3-vits16"):
        net = ViT(VITS[arch])
        files[arch] = tmp_path_factory.mktemp("vit") / VITS[arch].file
        torch.save(net.state_dict(), files[arch])
    return files


def test_official_files_are_recognised_and_loaded(official: dict[str, Path]) -> None:
    for arch, path in official.items():
        spec = recognise(path)
        assert spec == BackboneSpec(arch)
        net = new_backbone(spec)
        net.load_pretrained(path)
        state = torch.load(path, weights_only=True)
        assert isinstance(net, ViTBackbone)
        assert set(net.vit.state_dict()) == set(state)
        assert all(torch.equal(value, state[name]) for name, value in net.vit.state_dict().items())


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        sizes = {arch: sum(p.numel() for p in ViT(design).parameters()) / 1e6 for arch, design in VITS.items()}
    expected = {"dinov2-vits14": 22, "dinov2-vitb14": 87, "dinov2-vitl14": 304, "dinov3-vits16": 22}
    expected |= {"dinov3-vits16plus": 29, "dinov3-vitb16": 86, "dinov3-vitl16": 303}
    for arch, millions in expected.items():
        assert abs(sizes[arch] - millions) < 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", "missing blocks.3.ls1.gamma"),
        ("unexpected", "unexpected blocks.3.ls3.gamma"),
        ("shape", r"norm.bias is \(5,\), not \(384,\)"),
        ("nan", "the weight norm.bias contains NaN"),
        ("periods", "rope_embed.periods lacks the values of DINOv3"),
    ],
)
def test_a_key_too_few_too_many_or_of_another_shape_is_refused(
    change: str, sentence: str, official: dict[str, Path], tmp_path: Path
) -> None:
    state = torch.load(official["dinov3-vits16"], weights_only=True)
    if change == "missing":
        del state["blocks.3.ls1.gamma"]
    elif change == "unexpected":
        state["blocks.3.ls3.gamma"] = torch.ones(1)
    elif change == "periods":
        state["rope_embed.periods"] *= 2
    else:
        state["norm.bias"] = torch.ones(5) if change == "shape" else torch.full((384,), torch.nan)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=sentence):
        ViTBackbone(arch="dinov3-vits16").load_pretrained(tmp_path / "w.safetensors")


def test_weights_of_another_design_are_named(official: dict[str, Path]) -> None:
    for given, wanted in (
        ("dinov3-vits16", "dinov2-vits14"),
        ("dinov2-vits14", "dinov2-vits14-reg"),
        ("dinov2-vits14-reg", "dinov3-vits16"),
    ):
        with pytest.raises(InputError, match=f"holds weights of {given}, but encoder.arch is {wanted}; set encoder"):
            ViTBackbone(arch=wanted).load_pretrained(official[given])


def test_a_gated_file_that_is_absent_is_explained(tmp_path: Path) -> None:
    assert GATED == ("dinov3-vits16", "dinov3-vits16plus", "dinov3-vitb16", "dinov3-vitl16")
    with pytest.raises(InputError) as caught:
        ViTBackbone(arch="dinov3-vits16").load_pretrained(tmp_path / "none.pth")
    message = str(caught.value)
    assert "none.pth: no such file; novelseg never downloads" in message
    assert "https://ai.meta.com/" in message
    assert "DINOv3 License" in message
    with pytest.raises(InputError, match="no such weight file"):
        ViTBackbone(arch="dinov2-vits14").load_pretrained(tmp_path / "none.pth")


def test_gated_weights_are_used_from_the_cache_and_never_fetched(
    official: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOVELSEG_CACHE", str(tmp_path))
    assert novelseg("fetch", "--what", "dinov3-vits16", "--out", tmp_path) == 2
    assert "novelseg never downloads the weights of dinov3-vits16" in capsys.readouterr().err
    with pytest.raises(InputError, match="DINOv3 License"):
        cached_weights("dinov3-vits16")
    target = tmp_path / "weights" / VITS["dinov3-vits16"].file
    target.parent.mkdir()
    target.write_bytes(official["dinov3-vits16"].read_bytes())
    assert cached_weights("dinov3-vits16") == target
    assert novelseg("fetch", "--what", "dinov3-vits16", "--out", tmp_path) == 0


def test_dinov2_is_fetched_from_its_address_and_loaded_strictly_without_a_checksum(
    official: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = CATALOGUE["dinov2-vits14-reg"]
    assert entry.url == "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth"
    assert entry.check == ""
    assert CATALOGUE["dinov2-vits14"][0].check.startswith("sha256:b938bf1bc15cd2ec")
    archives = official["dinov2-vits14-reg"].parent
    assert novelseg("fetch", "--what", "dinov2-vits14-reg", "--out", tmp_path, "--archives", archives) == 0
    assert "no checksum is published" in capsys.readouterr().err
    assert recognise(tmp_path / "weights/dinov2-vits14-reg.safetensors") == BackboneSpec("dinov2-vits14-reg")
    other = tmp_path / "other"
    other.mkdir()
    (other / entry.name).write_bytes(official["dinov2-vits14"].read_bytes())
    assert novelseg("fetch", "--what", "dinov2-vits14-reg", "--out", other, "--archives", other) == 2
    assert "holds weights of dinov2-vits14, but" in capsys.readouterr().err


def test_check_weights_tells_what_a_file_is(
    official: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(8).integers(0, 256, (48, 64, 3), np.uint8)).save(image)
    words = ("check-weights", "--weights", official["dinov3-vits16"])
    assert novelseg(*words) == 0
    printed = capsys.readouterr().err
    assert "dinov3-vits16; no weight is missing" in printed
    assert "not that of dinov3_vits16_pretrain_lvd1689m-08c60483.pth" in printed
    assert novelseg(*words, "--image", image) == 2
    assert "differ by" in capsys.readouterr().err
    net = ViTBackbone(arch="dinov3-vits16").eval()
    net.load_pretrained(official["dinov3-vits16"])
    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        tokens = net.tokens(F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True))[0]
    monkeypatch.setitem(KNOWN_VALUES, "dinov3-vits16", (tuple(tokens[0, :5].tolist()), tuple(tokens[5, :5].tolist())))
    sha = hashlib.sha256(official["dinov3-vits16"].read_bytes()).hexdigest()
    monkeypatch.setitem(VITS, "dinov3-vits16", replace(VITS["dinov3-vits16"], check=sha[:8]))
    assert novelseg(*words, "--image", image) == 0
    printed = capsys.readouterr().err
    assert "its SHA-256 is that of the official file" in printed
    assert "are those of the official weights" in printed


@pytest.mark.parametrize("arch", ["dinov2-vits14", "dinov2-vits14-reg", "dinov3-vits16", "dinov3-vits16plus"])
def test_tokens_are_those_of_transformers(arch: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from benchmarks.vit_reference import BATCHES, SIZES, difference, pair

    design = replace(VITS[arch], depth=3)
    model, net = pair(arch, design, tmp_path)
    net.vit.offset = 0.0  # transformers has no offset
    for size in SIZES[design.patch]:
        for batch in BATCHES:
            assert max(difference(model, net, size, batch)) < 1e-4


def test_the_segmenter_takes_the_official_file(official: dict[str, Path]) -> None:
    for arch in ("dinov2-vits14-reg", "dinov3-vits16"):
        image, mask = disc(90)
        segmenter = Segmenter(weights=official[arch], variant="matching", side=128, device="cpu").fit([image], [mask])
        assert segmenter.bundle_.record.arch == arch
        (found,) = segmenter.predict([disc(101, (40, 60))[0]])
        assert found.shape == (101, 101)
