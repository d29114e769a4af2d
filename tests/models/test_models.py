"""Shared tests of the variants: a new one is a line in `VARIANTS`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fcn_edge import models
from fcn_edge.errors import ModelError, SpecError, UsageError
from fcn_edge.models.checkpoint import describe, load, read_state, save_checkpoint, untrained


def frames(height: int, width: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("variant", models.VARIANTS)
class TestEveryVariant:
    def test_scores_lie_on_the_grid_that_its_geometry_promises(self, variant):
        network, spec = untrained(variant)
        height, width = spec.side(100), spec.side(200)
        scores = network(frames(height, width, count=2))
        stride = network.geometry.output_stride
        assert scores.shape == (2, 21, -(-height // stride), -(-width // stride))
        assert scores.dtype == torch.float32

    def test_turning_the_first_convolution_round_changes_no_score(self, variant):
        network, spec = untrained(variant)
        frame = frames(spec.side(64), spec.side(96))
        before = network(frame)
        network.take_bgr()
        torch.testing.assert_close(network(frame), before, rtol=1e-4, atol=1e-5)

    def test_the_frame_is_taken_as_bgr(self, variant):
        """A network that looks at red alone sees nothing of a frame that is all blue."""
        network, spec = untrained(variant)
        first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            first.weight[:, 1:] = 0
        black = torch.zeros(1, spec.side(64), spec.side(64), 3, dtype=torch.uint8)
        blue, red = black.clone(), black.clone()
        blue[..., 0], red[..., 2] = 255, 255
        torch.testing.assert_close(network(blue), network(black))
        assert not torch.equal(network(red), network(black))

    def test_a_checkpoint_gives_its_network_back(self, variant, tmp_path):
        network, spec = untrained(variant)
        save_checkpoint(tmp_path / "c.safetensors", network, spec)
        loaded, said = load(tmp_path / "c.safetensors")
        assert said == spec
        frame = frames(spec.side(64), spec.side(64))
        torch.testing.assert_close(loaded(frame), network(frame), rtol=0.02, atol=0.02)

    def test_the_untrained_network_says_so(self, variant):
        assert untrained(variant)[1].trained is False


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
