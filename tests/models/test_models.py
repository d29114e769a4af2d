"""Shared tests of the variants: a new one is a line in `VARIANTS`, and one in `PARAMETERS`."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from forms import FORMS, IDS, narrow
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.data import read_image
from fcn_edge.decode import axis, decode
from fcn_edge.errors import ModelError, SpecError, UsageError
from fcn_edge.models.checkpoint import adopt, describe, load, read_state, save_checkpoint, untrained
from fcn_edge.spec import Deconv, Grid


def frames(height: int, width: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def mobilenet_v2(width: float) -> int:
    """Parameters of MobileNetV2 up to its last bottleneck, worked out from Sandler et al. 2018, table 2: a weight a
    connection and a bias a channel, batch norm being folded."""

    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return (inputs * kernel * kernel + 1) * outputs

    inputs = int(32 * width)
    total = convolution(3, inputs, 3)
    for expansion, full, repeats in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(repeats):
            hidden = expansion * inputs
            total += convolution(inputs, hidden, 1) if expansion > 1 else 0
            total += convolution(1, hidden, 3) + convolution(hidden, int(full * width), 1)
            inputs = int(full * width)
    return total


def lite_head(inputs: int) -> int:
    """Two projections to 256, two from 256 to 256 of which one has a bias, 21 scores."""
    return 2 * (inputs + 1) * 256 + 256 * 256 * 2 + 256 + 257 * 21


def lite_skip(inputs: int, width: int) -> int:
    """1x1, 3x3 a channel, 1x1, 3x3 a channel, 21 scores."""
    return (inputs + 1) * width + 10 * width + (width + 1) * width + 10 * width + (width + 1) * 21


VGG16_CONVOLUTIONS = 14_714_688  # torchvision's figure for vgg16, 138,357,544, less its three fully connected layers
FC6_FC7 = 25088 * 4096 + 4096 + 4096 * 4096 + 4096
SCORES = {inputs: (inputs + 1) * 21 for inputs in (32, 128, 256, 512, 1024, 4096)}  # 21 classes
UPSCORE = 21 * 21 * 4 * 4
FCN32S = VGG16_CONVOLUTIONS + FC6_FC7 + SCORES[4096]
INTERP = VGG16_CONVOLUTIONS + 512 * 128 * 9 + 2 * 128 + SCORES[128]
DECODER = ((512, 512), (512, 256), (256, 128), (128, 64), (64, 32))
DEEPLAB = mobilenet_v2(1) + lite_head(320)
# the way down with batch norm (torchvision's figure for vgg16_bn less that for vgg16), and all but one layer of that up
MIRROR = ((512, 512),) * 5 + ((512, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64))
UNPOOLED = VGG16_CONVOLUTIONS + 138_365_992 - 138_357_544 + sum(9 * i * o + 2 * o for i, o in MIRROR)
PARAMETERS = {
    "fcn32s-lite": mobilenet_v2(1) + lite_head(320),
    "fcn16s-lite": mobilenet_v2(1) + lite_head(320) + lite_skip(576, 192),
    "fcn8s-lite": mobilenet_v2(1) + lite_head(320) + lite_skip(576, 192) + lite_skip(192, 96),
    "fcn8s-lite-small": mobilenet_v2(0.5) + lite_head(160) + lite_skip(288, 96) + lite_skip(96, 48),
    "fcn8s-lite-large": mobilenet_v2(1) + lite_head(320) + lite_skip(192, 96),
    "fcn32s": FCN32S,
    "fcn16s": FCN32S + SCORES[512] + UPSCORE,
    "fcn8s": FCN32S + SCORES[512] + SCORES[256] + 2 * UPSCORE,
    "fcn8s-atonce": FCN32S + SCORES[512] + SCORES[256] + 2 * UPSCORE,
    "fcn-alexnet": 60_965_224 - 4097 * 1000 + SCORES[4096],  # BVLC's CaffeNet with its 1000 classes
    "fcn-alexnet-owt": 61_100_840 - 4097 * 1000 + SCORES[4096],  # torchvision's figure for alexnet
    "fcn-googlenet": 6_624_904 - 1025 * 1000 + SCORES[1024],  # torchvision's figure for googlenet
    "fcns-vgg16": VGG16_CONVOLUTIONS + sum(9 * i * o + o + 2 * o for i, o in DECODER) + SCORES[32],
    "fcn32s-interp": INTERP,
    "fcn16s-interp": INTERP + SCORES[512],
    "fcn8s-interp": INTERP + SCORES[512] + SCORES[256],
    "deeplabv3-lite": DEEPLAB,
    "deeplabv3-lite-os16": DEEPLAB,
    "deeplabv3-lite-os32": DEEPLAB,
    "deeplabv1-vgg16-crf": VGG16_CONVOLUTIONS + (9 * 512 + 1) * 1024 + 1025 * 1024 + SCORES[1024],
    "segnet": UNPOOLED + 9 * 64 * 21 + 21,
    "deconvnet": UNPOOLED + FC6_FC7 + 7 * 7 * 4096 * 512 + 2 * (4096 + 4096 + 512) + 9 * 64 * 64 + 2 * 64 + 65 * 21,
    "fcn-resnet50": 35_322_218,  # torchvision's figure, with the auxiliary head
    "fcn-resnet101": 54_314_346,
}
ODD = ((600, 399), (947, 584), (650, 444), (375, 500))
MULTIPLES = ((64, 96), (512, 512), (320, 1024))


def last_upsampling(scores: torch.Tensor, size: tuple[int, int], grid: Grid) -> torch.Tensor:
    """What each variant ends with in PyTorch's own words, cut to (H, W)."""
    if not isinstance(grid, Deconv):
        return F.interpolate(scores, size, mode="bilinear", align_corners=grid == "align_corners")
    factor = grid.deconv
    size_ = 2 * factor - factor % 2  # the paper's released code: surgery.py's upsample_filt, written out
    center = factor - 1 if size_ % 2 else factor - 0.5
    line = [1 - abs(i - center) / factor for i in range(size_)]
    kernel = torch.tensor([[a * b for b in line] for a in line])
    kernel = kernel.expand(scores.shape[1], 1, -1, -1)
    whole = F.conv_transpose2d(scores, kernel, stride=factor, groups=scores.shape[1])
    return whole[:, :, grid.crop : grid.crop + size[0], grid.crop : grid.crop + size[1]]


@pytest.mark.parametrize(("variant", "padding"), FORMS, ids=IDS)
class TestEveryFormOnPaper:
    """What needs no weights: the networks are built at full width on the meta device."""

    def build(self, variant, padding):
        with torch.device("meta"):
            network = models.build(variant, 21, padding).eval()
            return network, describe(network, variant)

    def test_it_has_as_many_parameters_as_its_source_says(self, variant, padding):
        network, _ = self.build(variant, padding)
        assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[variant]

    @pytest.mark.parametrize("size", [*ODD, *MULTIPLES, (32, 32)])
    def test_scores_cover_a_frame_of_any_size(self, variant, padding, size):
        """The decoder refuses scores that do not reach a frame's end; the paper's border leaves some beyond it."""
        network, spec = self.build(variant, padding)
        height, width = spec.side(size[0]), spec.side(size[1])
        scores = network(torch.zeros(2, height, width, 3, dtype=torch.uint8, device="meta"))
        assert scores.shape[:2] == (2, 21)
        for samples, pixels in zip(scores.shape[2:], (height, width), strict=True):
            axis(samples, pixels, spec.output.grid)
            assert padding == "paper" or (samples - 1) * spec.output.stride <= pixels + spec.output.stride

    def test_the_spec_names_its_form(self, variant, padding):
        network, spec = self.build(variant, padding)
        assert (spec.variant, spec.padding, len(spec.classes)) == (variant, padding, 21)
        assert spec.output.grid == network.geometry.grid


@pytest.mark.parametrize(("variant", "padding"), FORMS, ids=IDS)
class TestEveryForm:
    @pytest.fixture(autouse=True)
    def narrow(self):
        with narrow():
            yield

    def test_a_frame_of_32_by_32_has_scores(self, variant, padding):
        network, spec = untrained(variant, padding=padding)
        with torch.inference_mode():
            scores = network(frames(spec.side(32), spec.side(32)))
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()

    def test_an_untrained_network_tells_places_apart(self, variant, padding, cat, astronaut):
        """One class everywhere would pass any comparison of labels."""
        network, spec = untrained(variant, padding=padding)
        assert spec.trained is False
        photos = [cv2.resize(read_image(photo), (spec.side(160), spec.side(96))) for photo in (cat, astronaut)]
        with torch.inference_mode():
            labels = network(torch.from_numpy(np.stack(photos))).argmax(1)
        assert len(labels.unique()) >= 5

    def test_decoding_is_its_own_last_upsampling(self, variant, padding):
        network, spec = untrained(variant, padding=padding)
        size = spec.side(75), spec.side(102)
        with torch.inference_mode():
            scores = network(frames(*size))
        own = last_upsampling(scores, size, spec.output.grid)[0].argmax(0).numpy()
        assert own.shape == size
        labels = decode(scores[0].numpy(), size, spec.output.grid)
        assert (labels == own).mean() > 0.9999  # but where two scores tie within rounding

    def test_a_gradient_reaches_every_parameter_and_nothing_fixed(self, variant, padding):
        network, spec = untrained(variant, padding=padding)
        network.train()
        torch.manual_seed(1)
        outputs = network.training_scores(frames(spec.side(64), spec.side(96), count=2))
        sum((scores * torch.randn_like(scores)).sum() for scores in outputs).backward()  # type: ignore[union-attr]
        dry = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
        assert not dry
        assert not network.fixed() & {name for name, _ in network.named_parameters()}
        assert network.fixed() <= network.state_dict().keys()

    def test_the_frame_is_taken_as_bgr(self, variant, padding):
        """A network that looks at red alone sees nothing of a frame that is all blue."""
        network, spec = untrained(variant, padding=padding)
        network.take_order("BGR")
        with torch.no_grad():
            network.first_convolution()[1].weight[:, :2] = 0
        black = torch.zeros(1, spec.side(64), spec.side(64), 3, dtype=torch.uint8)
        blue, red = black.clone(), black.clone()
        blue[..., 0], red[..., 2] = 255, 255
        with torch.inference_mode():
            torch.testing.assert_close(network(blue), network(black))
            assert not torch.equal(network(red), network(black))

    def test_turning_the_first_convolution_round_changes_no_score(self, variant, padding):
        network, spec = untrained(variant, padding=padding)
        frame = frames(spec.side(64), spec.side(96))
        with torch.inference_mode():
            before = network(frame)
            for color in ("BGR", "RGB"):
                network.take_order(color)
                torch.testing.assert_close(network(frame), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))

    def test_a_checkpoint_gives_its_network_back(self, variant, padding, tmp_path):
        """As it is in float16."""
        network, spec = untrained(variant, padding=padding)
        save_checkpoint(tmp_path / "c.safetensors", network, spec)
        loaded, said = load(tmp_path / "c.safetensors")
        assert said == spec
        frame = frames(spec.side(64), spec.side(64))
        with torch.inference_mode():
            for parameter in network.parameters():
                parameter.copy_(parameter.half())
            torch.testing.assert_close(loaded(frame), network(frame))


class TestFcn8sLite:
    def test_skips_start_at_zero_so_that_training_starts_from_the_coarse_scores(self):
        network = models.build("fcn8s-lite", 21)
        frame = frames(65, 97)
        whole = network(frame)
        for head in ("head16", "head8"):
            for parameter in getattr(network, head)[:-1].parameters():
                nn.init.normal_(parameter)
        torch.testing.assert_close(network(frame), whole)

    def test_pretrained_head_of_joined_features_gives_the_scores_of_one_projection(self):
        """Two projections that are added equal one over pooling and local features joined, in that order."""
        torch.manual_seed(1)
        shapes = {"aspp0": (256, 320), "image_pooling": (256, 320)}
        shapes |= {"concat_projection": (256, 512), "logits": (21, 256)}
        state = {f"head.{name}.weight": torch.randn(*shape, 1, 1) / 20 for name, shape in shapes.items()}
        state |= {f"head.{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
        network = models.build("fcn8s-lite", 21)
        adopted = network.adopt(state, "test")
        assert "head32.project_context.weight" in adopted

        features = torch.randn(1, 320, 3, 5)

        def layer(name: str, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, state[f"head.{name}.weight"], state[f"head.{name}.bias"])

        pooled = layer("image_pooling", features.mean((2, 3), keepdim=True)).relu().expand(-1, -1, 3, 5)
        joined = torch.cat([pooled, layer("aspp0", features).relu()], 1)
        expected = layer("logits", layer("concat_projection", joined).relu())
        head = network.get_submodule("head32")
        torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-4)


class TestWeightFiles:
    def test_weights_that_fit_nothing_are_refused(self):
        network = models.build("fcn8s-lite", 21)
        with pytest.raises(ModelError, match="no tensor has a name of it"):
            network.adopt({"encoder.weight": torch.zeros(1)}, "other.pth")

    def test_a_pickle_that_could_run_code_is_not_opened(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
        with pytest.raises(ModelError, match="could run code"):
            read_state(tmp_path / "whole.pth")

    def test_a_plain_pth_is_read(self, tmp_path):
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "state.pth")
        assert set(read_state(tmp_path / "state.pth")[0]) == {"weight", "bias"}

    @pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
    def test_a_file_of_something_else_is_named(self, tmp_path, name):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ModelError, match=name):
            read_state(tmp_path / name)

    def test_a_missing_file_is_named(self):
        with pytest.raises(ModelError, match=r"gone\.pth: no such"):
            read_state(Path("gone.pth"))

    def test_bare_weights_are_no_checkpoint(self, tmp_path):
        save_file({"weight": torch.zeros(1)}, tmp_path / "bare.safetensors")
        with pytest.raises(SpecError, match="without a spec"):
            load(tmp_path / "bare.safetensors")

    def test_a_checkpoint_of_another_variant_is_told(self, tmp_path):
        network, spec = untrained("fcn8s-lite")
        save_checkpoint(tmp_path / "c.safetensors", network, spec)
        with pytest.raises(ModelError, match="checkpoint of fcn8s-lite, not of fcn32s"):
            load(tmp_path / "c.safetensors", "fcn32s")

    def test_tensors_that_do_not_fit_the_named_variant_are_counted(self, tmp_path):
        network, spec = untrained("fcn8s-lite")
        network.head8 = nn.Sequential()
        save_checkpoint(tmp_path / "c.safetensors", network, spec)
        with pytest.raises(ModelError, match="10 tensors do not fit"):
            load(tmp_path / "c.safetensors")

    def test_an_unknown_variant_lists_the_known(self):
        with pytest.raises(UsageError, match="fcn8s-lite"):
            models.build("fcn9s", 21)


def test_the_spec_of_a_network_names_what_it_was_made_with():
    network, _ = untrained("fcn8s-lite")
    spec = describe(network, "fcn8s-lite", pretrained="abc")
    assert spec.provenance["pretrained"] == "abc"
    assert spec.provenance["torch"] == torch.__version__


def test_bare_weights_are_opened_with_a_spec_that_describes_them(tmp_path):
    network, spec = untrained("fcn8s-lite")
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    loaded, said = load(tmp_path / "bare.pth", spec=spec)
    assert said is spec
    frame = frames(65, 65)
    torch.testing.assert_close(loaded(frame), network.eval()(frame))


class TestAnotherNormalisation:
    """A trunk that was trained on other colours gives the same features here, but at the zero-padded border."""

    @staticmethod
    def inner(network: torch.nn.Module, planes: torch.Tensor) -> torch.Tensor:
        return network.get_submodule("features")[0](planes)[:, :, 1:-1, 1:-1]  # type: ignore[index]

    def save(self, path: Path, **metadata: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        state = {"features.0.0.weight": torch.randn(32, 3, 3, 3) / 5, "features.0.0.bias": torch.randn(32)}
        save_file(state, path, metadata)
        return state

    @pytest.mark.parametrize("color", ["RGB", "BGR"])
    def test_mean_and_std_in_the_metadata_are_folded_into_the_first_convolution(self, tmp_path, color):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        text = {"mean": ",".join(map(str, mean)), "std": ",".join(map(str, std)), "color": color}
        state = self.save(tmp_path / "trunk.safetensors", **text)
        network = models.build("fcn8s-lite", 21)
        assert adopt(network, tmp_path / "trunk.safetensors") == set(state)

        frame = frames(33, 65)
        rgb = frame.flip(3).permute(0, 3, 1, 2) / 255
        theirs = (rgb - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
        theirs = theirs if color == "RGB" else theirs.flip(1)
        expected = F.conv2d(theirs, state["features.0.0.weight"], state["features.0.0.bias"], stride=2, padding=1)
        got = self.inner(network, network.planes(frame))
        torch.testing.assert_close(got, expected.clamp(0, 6)[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)

    def test_a_network_that_takes_bgr_already_adopts_the_same_trunk(self, tmp_path):
        self.save(tmp_path / "trunk.safetensors", mean="0.485,0.456,0.406", std="0.229,0.224,0.225")
        plain, turned = models.build("fcn8s-lite", 21), models.build("fcn8s-lite", 21)
        turned.take_order("BGR")
        for network in (plain, turned):
            adopt(network, tmp_path / "trunk.safetensors")
        frame = frames(33, 33)
        got = [self.inner(network, network.planes(frame)) for network in (plain, turned)]
        torch.testing.assert_close(got[0], got[1], rtol=1e-4, atol=1e-5)

    def test_another_mean_without_a_bias_to_take_it_up_is_answered_with_the_file_and_a_mend(self, tmp_path):
        path = tmp_path / "trunk.safetensors"
        weight = {"features.0.0.weight": torch.ones(32, 3, 3, 3)}
        save_file(weight, path, {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"})
        with pytest.raises(ModelError, match=r"trunk\.safetensors: .* no features\.0\.0\.bias .*docs/weights\.md"):
            adopt(models.build("fcn8s-lite", 21), path)

    def test_a_trunk_that_says_nothing_is_taken_as_it_is(self, tmp_path):
        state = self.save(tmp_path / "trunk.safetensors")
        network = models.build("fcn8s-lite", 21)
        adopt(network, tmp_path / "trunk.safetensors")
        assert torch.equal(network.state_dict()["features.0.0.weight"], state["features.0.0.weight"])

    @pytest.mark.parametrize(
        "wrong", [{"mean": "0.5"}, {"mean": "a,b,c"}, {"std": "1,1,0"}, {"color": "HSV"}], ids=lambda wrong: str(wrong)
    )
    def test_metadata_that_make_no_sense_are_named(self, tmp_path, wrong):
        self.save(tmp_path / "trunk.safetensors", **({"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"} | wrong))
        with pytest.raises(SpecError, match=r"trunk\.safetensors: its metadata say"):
            adopt(models.build("fcn8s-lite", 21), tmp_path / "trunk.safetensors")


def test_a_form_that_a_variant_does_not_have_is_refused():
    with pytest.raises(UsageError, match="no form with padding 'paper'"):
        models.build("fcn8s-lite", 21, "paper")


def test_the_spec_takes_other_classes_and_colours():
    with torch.device("meta"):
        network = models.build("fcn8s-lite", 2)
    spec = describe(network, "fcn8s-lite", classes=("road", "sky"), palette=((1, 2, 3), (4, 5, 6)))
    assert (spec.classes, spec.palette) == (("road", "sky"), ((1, 2, 3), (4, 5, 6)))
