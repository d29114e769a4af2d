"""The shapes and options of an engine, and the device profiles that travel with the package."""

from __future__ import annotations

import pytest

from fcn_edge.engine.machine import Gpu, Machine
from fcn_edge.engine.profiles import (
    MIB,
    WRITTEN_FOR,
    Options,
    Profile,
    allowed,
    check_profiles,
    default_profiles,
    device_for,
    devices,
    input_shape,
    load_device,
    static_profiles,
)
from fcn_edge.errors import BackendError, UsageError
from fcn_edge.spec import Input, ModelSpec

ALIGNED = ModelSpec("aligned", ("a", "b"), size=512, stride=32, sides="k*stride+1")
EVEN = ModelSpec("even", ("a", "b"), size=512, stride=32)


def test_the_default_serves_16_9_4_3_and_square_frames_and_their_portraits():
    sizes = [(289, 513), (513, 289), (385, 513), (513, 385), (513, 513)]
    assert default_profiles(ALIGNED) == [Profile(size, size, size) for size in sizes]
    assert [profile.opt for profile in default_profiles(EVEN)] == [(h // 32 * 32, w // 32 * 32) for h, w in sizes]


def test_a_network_of_one_size_has_one_default_profile():
    stretched = ModelSpec("s", ("a", "b"), size=512, stride=32, resize="stretch")
    assert default_profiles(stretched) == [Profile((512, 512), (512, 512), (512, 512))]


def test_native_has_no_default_because_the_camera_decides():
    with pytest.raises(UsageError, match="--shapes"):
        default_profiles(ModelSpec("n", ("a", "b"), resize="native"))


def test_a_profile_takes_what_is_within_it_and_no_more():
    profile = Profile((64, 64), (288, 512), (512, 512), (1, 1, 4))
    assert profile.takes((64, 512), 4)
    assert not profile.takes((32, 512))
    assert not profile.takes((64, 544))
    assert not profile.takes((64, 512), 5)
    assert not profile.static
    assert Profile((64, 64), (64, 64), (64, 64)).static


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (Profile((288, 512), (288, 512), (288, 512)), "288x512"),
        (Profile((64, 64), (288, 512), (512, 512), (1, 2, 4)), "64x64 to 512x512, best at 288x512, 1 to 4 frames"),
        (Profile((64, 64), (64, 64), (64, 64), (4, 4, 4)), "64x64, 4 frames"),
    ],
)
def test_a_profile_is_told_in_words(profile, told):
    assert str(profile) == told


@pytest.mark.parametrize(
    "profile",
    [
        Profile((512, 512), (512, 512), (64, 64)),
        Profile((64, 64), (32, 512), (512, 512)),
        Profile((64, 64), (64, 64), (64, 64), (2, 1, 4)),
        Profile((64, 64), (64, 64), (64, 64), (0, 1, 1)),
    ],
)
def test_a_range_that_does_not_go_upwards_is_refused(profile):
    with pytest.raises(UsageError, match="Put them in that order"):
        check_profiles(EVEN, [profile])


def test_sides_that_the_network_does_not_take_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"takes sides of k\*32\+1, which 288x512 has not. The nearest: 289x513"):
        check_profiles(ALIGNED, static_profiles([(288, 512)]))
    check_profiles(ALIGNED, static_profiles([allowed(ALIGNED, (288, 512))]))


def test_no_profile_is_refused():
    with pytest.raises(UsageError, match="at least one profile"):
        check_profiles(EVEN, [])


def test_the_input_is_laid_out_as_the_spec_says():
    assert input_shape(EVEN, 2, (32, 64)) == (2, 32, 64, 3)
    assert input_shape(ModelSpec("p", ("a", "b"), input=Input("NCHW", "float32")), 2, (32, 64)) == (2, 3, 32, 64)


def test_there_is_a_device_profile_for_each_kind_of_machine():
    assert set(devices()) == {"orin-nano", "orin-nx", "agx-orin", "thor", "rtx-desktop", "data-centre"}


@pytest.mark.parametrize("name", devices())
def test_a_device_profile_is_read_and_has_a_reason_beside_each_number(name):
    device = load_device(name)
    assert device.about
    assert device.power
    lines = devices()[name].read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("workspace_mib", "level", "batch", "targets", "dla_core")):
            assert "#" in line or lines[number - 1].startswith("#"), line


def test_scratch_memory_of_a_board_is_limited():
    assert load_device("orin-nano").options == Options(workspace=1024 * MIB)


def test_a_device_profile_of_ones_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('about = "mine"\nbackend = "tensorrt"\nworkspace_mib = 7\ndla_core = 1\nshapes = ["288x512"]\n')
    device = load_device(str(file))
    assert device.options == Options(workspace=7 * MIB, dla_core=1)
    assert device.shapes == ("288x512",)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("about = 1", BackendError, "is no device profile"),
        ('about = "x"', BackendError, "missing required field `backend`"),
        ('about = "x"\nbackend = "tensorrt"\nwork = 1', BackendError, "unknown field `work`"),
        ("\x00", BackendError, "is no device profile"),
        ('about = "x"\nbackend = "tensorrt"\nlevel = 6', UsageError, "levels are 0 to 5, not 6"),
        ('about = "x"\nbackend = "tensorrt"\nworkspace_mib = 0', UsageError, "0 MiB"),
        ('about = "x"\nbackend = "tensorrt"\ndla_core = 2', UsageError, "DLA cores are 0 and 1, not 2"),
    ],
)
def test_a_device_profile_that_is_none_is_one_line(text, kind, said, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(kind) as caught:
        load_device(str(tmp_path / "bad.toml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_device_profile_lists_the_known():
    with pytest.raises(UsageError, match=r"no device profile 'orin'. Known: agx-orin, data-centre"):
        load_device("orin")
    with pytest.raises(BackendError, match=r"gone.toml: no such device profile"):
        load_device("gone.toml")


@pytest.mark.parametrize(
    ("gpu", "capability", "board", "product", "name"),
    [  # GPUs as CUDA names them, boards as their device trees do
        ("Orin", "8.7", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "tensorrt", "orin-nano"),
        ("Orin", "8.7", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "tensorrt", "orin-nx"),
        ("Orin", "8.7", "NVIDIA Jetson AGX Orin Developer Kit", "tensorrt", "agx-orin"),
        ("Orin", "8.7", None, "tensorrt", None),  # a container that hides which board it is
        ("NVIDIA Thor", "11.0", "NVIDIA Jetson AGX Thor Developer Kit", "tensorrt", "thor"),
        ("NVIDIA GeForce RTX 4090", "8.9", None, "tensorrt-rtx", "rtx-desktop"),
        ("NVIDIA RTX A6000", "8.6", None, "tensorrt-rtx", "rtx-desktop"),
        ("NVIDIA GeForce RTX 2080 Ti", "7.5", None, "tensorrt-rtx", None),  # is none of its targets
        ("NVIDIA GeForce RTX 4090", "8.9", None, "tensorrt", None),
        ("NVIDIA RTX A400", "8.6", None, "tensorrt", None),
        ("Tesla T4", "7.5", None, "tensorrt", "data-centre"),
        ("NVIDIA A100-SXM4-80GB", "8.0", None, "tensorrt", "data-centre"),
        ("NVIDIA L40S", "8.9", None, "tensorrt", "data-centre"),
        ("NVIDIA H100 80GB HBM3", "9.0", None, "tensorrt", "data-centre"),
        ("NVIDIA GeForce GTX 1650", "7.5", None, "tensorrt", None),
    ],
)
def test_a_machine_has_the_device_profile_that_is_written_for_it(gpu, capability, board, product, name):
    found = Gpu(gpu, capability, 16, 16 << 30, None, "13.0")
    assert device_for(Machine(product, "1.2.3", "linux", "x86_64", found, board)) == name


def test_without_a_gpu_no_device_profile_is_taken():
    assert device_for(Machine("tensorrt-rtx", "1.7.1.116", "linux", "x86_64", None)) is None


def test_every_device_profile_can_be_found_for_a_machine():
    assert set(WRITTEN_FOR) == set(devices())
