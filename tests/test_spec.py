"""The spec survives its own file formats, and its sides are ones that the network takes."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcn_edge import spec
from fcn_edge.errors import SpecError
from fcn_edge.spec import VOC_CLASSES, Deconv, Input, ModelSpec, Output

GRIDS = st.sampled_from(["half_pixel", "align_corners"]) | st.builds(Deconv, st.integers(1, 64), st.integers(0, 64))
SPECS = st.builds(
    ModelSpec,
    name=st.text(min_size=1),
    classes=st.lists(st.text(), min_size=1, max_size=254, unique=True).map(tuple),
    trained=st.booleans(),
    input=st.builds(Input, color=st.sampled_from(["BGR", "RGB"])),
    stride=st.sampled_from([8, 16, 32]),
    size=st.integers(1, 4096),
    sides=st.sampled_from(["k*stride", "k*stride+1", "any"]),
    output=st.builds(Output, stride=st.integers(1, 32), grid=GRIDS),
    quality=st.dictionaries(st.text(), st.integers() | st.text()),
)


class TestRoundTrip:
    @given(SPECS)
    def test_json_gives_back_what_went_in(self, made):
        assert spec.from_json(made.to_json(), "file") == made

    def test_toml_describes_a_foreign_model(self, tmp_path):
        (tmp_path / "s.toml").write_text(
            'name = "peer"\nclasses = ["background", "cat"]\nsize = 257\noutput = { grid = { deconv = 8, crop = 4 } }\n'
        )
        read = spec.from_toml(tmp_path / "s.toml")
        assert (read.size, read.output.grid) == (257, Deconv(8, 4))


class TestSides:
    @given(SPECS, st.floats(0, 1e5))
    def test_a_side_is_one_that_the_network_takes(self, made, pixels):
        side = made.side(pixels)
        assert side >= 1
        if made.sides != "any":
            assert side % made.stride == (made.sides == "k*stride+1")
            assert side > made.stride or pixels < 1.6 * made.stride + 1

    @given(SPECS, st.integers(1, 100_000))
    def test_the_side_above_holds_the_frame_and_wastes_less_than_a_stride(self, made, pixels):
        side = made.side_above(pixels)
        assert side >= pixels
        assert side == made.side(side)
        assert side < pixels + made.stride or side <= made.stride + 1

    def test_512_asked_of_corner_aligned_sides_is_513(self):
        made = ModelSpec("x", ("background",), stride=32, sides="k*stride+1")
        assert (made.side(512), made.side(384), made.side(1)) == (513, 385, 33)


class TestRefused:
    def test_a_class_that_is_named_twice(self, tmp_path):
        (tmp_path / "s.toml").write_text('name = "peer"\nclasses = ["cat", "dog", "cat"]\n')
        with pytest.raises(SpecError, match=r"s\.toml: .*cat stands among its classes more than once"):
            spec.from_toml(tmp_path / "s.toml")
        with pytest.raises(SpecError, match=r"file: .*more than once"):
            spec.from_json('{"name": "peer", "classes": ["cat", "cat"]}', "file")

    def test_a_newer_schema(self):
        with pytest.raises(SpecError, match="Upgrade"):
            ModelSpec("x", ("a",), schema=spec.SCHEMA + 1)

    @pytest.mark.parametrize("classes", [(), tuple(map(str, range(255)))])
    def test_no_classes_and_more_than_a_label_holds(self, classes):
        with pytest.raises(SpecError, match="1 to 254"):
            ModelSpec("x", classes)

    def test_colours_that_are_not_one_a_class(self):
        with pytest.raises(SpecError, match="1 colours for 2"):
            ModelSpec("x", ("a", "b"), palette=((0, 0, 0),))

    def test_a_newer_file_is_named(self, tmp_path):
        newer = '{"name": "x", "classes": ["a"], "schema": 99}'
        with pytest.raises(SpecError, match=r"model\.onnx: x: its spec has schema 99"):
            spec.from_json(newer, "model.onnx")
        path = tmp_path / "x.toml"
        path.write_text('name = "x"\nclasses = ["a"]\nschema = 99\n')
        with pytest.raises(SpecError, match=r"x\.toml: x: its spec has schema 99"):
            spec.from_toml(path)

    @pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"name": "x", "classes": ["a"], "size": "big"}'])
    def test_metadata_that_is_no_spec_names_its_file(self, text):
        with pytest.raises(SpecError, match=r"model\.onnx"):
            spec.from_json(text, "model.onnx")

    @pytest.mark.parametrize("text", ["name = ", "name = 3", 'name = "x"'])
    def test_toml_that_is_no_spec_names_its_file(self, tmp_path, text):
        (tmp_path / "s.toml").write_text(text)
        with pytest.raises(SpecError, match=r"s\.toml"):
            spec.from_toml(tmp_path / "s.toml")

    def test_a_missing_toml(self, tmp_path):
        with pytest.raises(SpecError, match=r"gone\.toml"):
            spec.from_toml(tmp_path / "gone.toml")


def test_colours_are_vocs():
    """Aeroplane, person and tvmonitor as the development kit paints them."""
    palette = spec.voc_palette(len(VOC_CLASSES))
    assert (palette[0], palette[1], palette[15], palette[20]) == ((0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128))


def test_the_page_about_it_has_every_field_and_no_other():
    page = (Path(__file__).parent.parent / "docs" / "spec.md").read_text(encoding="utf-8")
    table = page[page.index("| field |") : page.index("## From scores")]
    told = {name for row in re.findall(r"^\| (.*?) \|", table, re.M) for name in re.findall(r"`(.*?)`", row)}
    parts = {"input": Input, "output": Output}
    own = {entry.name for entry in fields(ModelSpec)} - parts.keys()
    assert told == own | {f"{name}.{entry.name}" for name, part in parts.items() for entry in fields(part)}
