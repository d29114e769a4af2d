"""Which TensorRT is taken, what each version is told, and that every name of TensorRT's that the code uses exists.

The versions are stand-ins but for TensorRT-RTX: 8.6, 10 and 11 cannot be installed without a GPU. What the code asks of
them is held against the type stubs of 10.13, which scripts/check puts into .venv-stubs.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fcn_edge
from fcn_edge.engine import versions
from fcn_edge.engine.versions import Trt, load
from fcn_edge.errors import BackendError, UsageError

ROOT = Path(fcn_edge.__file__).parent
STUBS = ROOT.parent / ".venv-stubs" / "tensorrt_bindings" / "tensorrt.pyi"


class Enum:
    def __init__(self, *names: str) -> None:
        for value, name in enumerate(names):
            setattr(self, name, value)


class Config:
    """Notes what a builder's configuration is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def set_flag(self, flag: Any) -> None:
        self.told.append(flag)


def stand_in(version: str, product: str = "tensorrt") -> Trt:
    """What `Trt` needs of a module of that version, by NVIDIA's documents."""

    class ILogger:
        def __init__(self) -> None:
            pass

    flags = ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")
    module: Any = types.SimpleNamespace(ILogger=ILogger, BuilderFlag=Enum(*flags))
    if version.startswith("8"):
        module.NetworkDefinitionCreationFlag = Enum("EXPLICIT_BATCH", "EXPLICIT_PRECISION")
        module.HardwareCompatibilityLevel = Enum("NONE", "AMPERE_PLUS")
        module.ParserError = types.SimpleNamespace()
    else:
        module.NetworkDefinitionCreationFlag = Enum("EXPLICIT_BATCH", "STRONGLY_TYPED")
        module.HardwareCompatibilityLevel = Enum("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")
        module.IProgressMonitor = object
        module.ParserError = types.SimpleNamespace(node_name=None)
    return Trt(product, module, tuple(int(part) for part in version.split(".")))


@pytest.fixture(autouse=True)
def forget_what_was_loaded(monkeypatch):
    """Stand-ins under TensorRT's name are gone afterwards."""
    load.cache_clear()
    yield
    sys.modules.pop("tensorrt", None)
    load.cache_clear()


class TestLoading:
    def test_tensorrt_rtx_is_loaded_with_its_version_and_targets(self):
        rtx = pytest.importorskip("tensorrt_rtx")
        trt = load("tensorrt-rtx")
        assert trt.version == tuple(int(part) for part in rtx.__version__.split("."))
        assert {"7.5", "8.6", "8.9", "12.0"} <= set(trt.targets)
        assert not {"8.7", "11.0"} & set(trt.targets)  # Orin's and Thor's

    def test_an_unknown_product_lists_the_known(self):
        with pytest.raises(UsageError, match="Known: tensorrt, tensorrt-rtx"):
            load("tensorflow")

    def test_a_missing_one_is_told_with_the_line_that_installs_it(self, monkeypatch, tmp_path):
        monkeypatch.setattr(versions, "JETPACK_RELEASE", tmp_path / "none")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendError, match=r"TensorRT .*Install it: pip install tensorrt"):
            load("tensorrt")

    def test_on_jetson_pip_is_never_named(self, monkeypatch, tmp_path):
        (tmp_path / "release").write_text("# R36 (release)")
        monkeypatch.setattr(versions, "JETPACK_RELEASE", tmp_path / "release")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        with pytest.raises(BackendError, match=r"JetPack brings it: .*--system-site-packages") as caught:
            load("tensorrt")
        assert "pip" not in str(caught.value)
        with pytest.raises(BackendError, match="does not serve Jetson boards"):
            load("tensorrt-rtx")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "is an empty package here: tensorrt holds no Builder"),
            ("raise OSError('libnvdla_compiler.so: cannot open shared object file')", r"does not load \(libnvdla"),
            ("import gone_altogether", r"does not load \(No module named 'gone_altogether'\)"),
            ("Builder = 1; __version__ = '8.5.3.1'", "8.5.3.1 is too old, 8.6 is the least"),
        ],
        ids=["only a folder", "a library is missing", "a module is missing", "too old"],
    )
    def test_one_that_cannot_be_used_is_told_why(self, content, said, tmp_path, monkeypatch):
        (tmp_path / "tensorrt").mkdir()
        if content is not None:
            (tmp_path / "tensorrt" / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("tensorrt", None)
        with pytest.raises(BackendError, match=said) as caught:
            load("tensorrt")
        assert "\n" not in str(caught.value)


class TestWhatEachVersionIsTold:
    @pytest.mark.parametrize(
        ("version", "product", "flag"),
        [
            ("8.6.2", "tensorrt", "EXPLICIT_BATCH"),
            ("10.3.0", "tensorrt", "STRONGLY_TYPED"),
            ("10.16.1", "tensorrt", "STRONGLY_TYPED"),
            ("11.4.1", "tensorrt", None),
            ("1.7.1", "tensorrt-rtx", None),
        ],
    )
    def test_networks_are_strongly_typed_wherever_that_exists(self, version, product, flag):
        trt = stand_in(version, product)
        wanted = 0 if flag is None else 1 << getattr(trt.module.NetworkDefinitionCreationFlag, flag)
        assert trt.network_flags == wanted
        assert trt.is_typed == (flag != "EXPLICIT_BATCH")

    @pytest.mark.parametrize(
        ("types_", "flags"),
        [
            ({"fp32": 66}, ["OBEY_PRECISION_CONSTRAINTS"]),
            ({"fp16": 60, "fp32": 6}, ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
            ({"int8": 60, "fp16": 6}, ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]),
        ],
    )
    def test_8_6_is_allowed_the_types_that_the_file_has_and_no_others(self, types_, flags):
        trt, config = stand_in("8.6.2"), Config()
        trt.allow_types(config, types_)
        assert config.told == [getattr(trt.module.BuilderFlag, flag) for flag in flags]

    def test_from_10_on_no_precision_flag_is_set(self):
        for version, product in (("10.3.0", "tensorrt"), ("11.4.1", "tensorrt"), ("1.7.1", "tensorrt-rtx")):
            config = Config()
            stand_in(version, product).allow_types(config, {"fp16": 60, "int8": 1})
            assert config.told == []

    def test_hardware_levels_are_those_that_the_version_has(self):
        assert set(stand_in("8.6.2").hardware_levels) == {"ampere_plus"}
        assert set(stand_in("10.16.0").hardware_levels) == {"ampere_plus", "same_compute_capability"}
        assert stand_in("1.7.1", "tensorrt-rtx").hardware_levels == {}

    def test_an_inspectors_type_is_found_in_both_spellings(self):
        """One joint field before 11 (NVIDIA/TensorRT 2418), two from 11 on ("IEngineInspector JSON Output")."""
        joint = {"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}
        apart = {"Name": "x", "Datatype": "Half", "Format": "Channel major"}
        assert stand_in("10.3.0").tensor_type(joint) == joint["Format/Datatype"]
        assert stand_in("11.4.1").tensor_type(apart) == "Half"

    def test_a_parser_error_before_10_has_a_number_and_after_a_name(self):
        class Error:
            def node(self) -> int:
                return 7

            def node_name(self) -> str:
                return "turn"

            def node_operator(self) -> str:
                return "Transpose"

            def desc(self) -> str:
                return "no"

        parser = types.SimpleNamespace(num_errors=1, get_error=lambda index: Error())
        assert stand_in("8.6.2").parser_complaints(parser) == [("number 7", "", "no")]
        assert stand_in("10.3.0").parser_complaints(parser) == [("turn", "Transpose", "no")]


# -- every name that the code uses exists ------------------------------------------------------------------------------

OBJECTS = {  # variables that hold an object of TensorRT's, in the files that use it: name to class
    "added": "IOptimizationProfile",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "measured": "ITimingCache",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "pool": "IPoolingLayer",
    "runtime": "Runtime",
    "taken": "ITensor",
}
RTX_ALONE = "TensorRtRtx"  # the class of what no other product has
ASKING = [
    *(ROOT / "engine" / f"{name}.py" for name in ("builder", "dla", "inspection", "progress", "complaints")),
    *(ROOT / "runtime" / f"{name}.py" for name in ("tensorrt", "plan")),
]


def chain(node: ast.AST) -> list[str]:
    """["trt", "api", "Builder"] of `trt.api.Builder`; empty where it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def named(source: str) -> Iterator[tuple[str, bool]]:
    """What a source names of TensorRT's, as "LayerType.CONVOLUTION" or "Builder.reset", and whether of RTX alone."""
    tree = ast.parse(source)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                yield from ((name, node.name == RTX_ALONE) for name in _named(child, node.name == RTX_ALONE))
        else:
            yield from ((name, False) for name in _named(node, False))


def _named(scope: ast.AST, rtx_alone: bool) -> Iterator[str]:
    """The same of one function, where a name means one thing."""
    aliases: dict[str, list[str]] = {}

    def tail(names: list[str]) -> list[str]:
        if names and names[0] in aliases:
            return aliases[names[0]] + names[1:]
        roots = [index for index, name in enumerate(names) if name in ("api", "module")]
        return names[roots[0] + 1 :] if roots else []

    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names = chain(node.value)
            if "api" in names or "module" in names:
                aliases[node.targets[0].id] = tail(names)
    inner = {node.value for node in ast.walk(scope) if isinstance(node, ast.Attribute)}
    for node in ast.walk(scope):
        if not isinstance(node, ast.Attribute) or node in inner:
            continue
        names = chain(node)
        if found := tail(names):
            yield ".".join(found)
            continue
        for holder, attribute in itertools.pairwise(names):
            kind = OBJECTS.get(holder.lstrip("_"))
            if kind is not None:
                yield f"{'IRuntimeConfig' if rtx_alone and holder == 'config' else kind}.{attribute}"


def stubs() -> dict[str, set[str]]:
    """Class to the names in it and in its bases; by line, because the stubs' syntax is not quite Python's."""
    classes: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in STUBS.read_text().splitlines():
        if header := re.match(r"class (\w+)(?:\((\w+))?", line):
            current = classes.setdefault(header[1], set(classes.get(header[2] or "", ())))
        elif member := re.match(r"    (?:def )?(\w+)(?:\(|:)", line):
            current.add(member[1])
    return classes


def unknown_to_stubs(name: str, classes: dict[str, set[str]]) -> bool:
    kind, *rest = name.split(".")
    return kind not in classes or any(each not in classes[kind] for each in rest[:1] if not each.startswith("__"))


def unknown_to_rtx(name: str) -> bool:
    at: Any = pytest.importorskip("tensorrt_rtx")
    for each in name.split("."):
        if not hasattr(at, each):
            return True
        at = getattr(at, each)
    return False


def need_stubs() -> dict[str, set[str]]:
    if not STUBS.exists():
        assert not os.environ.get("CI"), f"{STUBS} is missing: scripts/check puts it there"
        pytest.skip(f"{STUBS} is missing: run scripts/check once")
    return stubs()


def test_every_name_exists_in_10_13_and_in_tensorrt_rtx():
    classes = need_stubs()
    missing = []
    for path in ASKING:
        for name, rtx_alone in named(path.read_text()):
            where = [] if rtx_alone or not unknown_to_stubs(name, classes) else ["10.13"]
            where += ["TensorRT-RTX"] if unknown_to_rtx(name) else []
            missing += [f"{path.name}: {name} is not in {' and '.join(where)}"] if where else []
    assert missing == []


def test_what_one_of_them_lacks_is_named_in_versions_alone_and_exists_in_the_other():
    classes = need_stubs()
    names = [name for name, _ in named((ROOT / "engine" / "versions.py").read_text())]
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in names
    assert [name for name in names if unknown_to_stubs(name, classes) and unknown_to_rtx(name)] == []


def test_a_name_that_does_not_exist_is_found():
    classes = need_stubs()
    wrong = "def f():\n flags = trt.api.BuilderFlag\n config.set_flagg(flags.FP17)\n self._engine.get_tensor_nam(0)"
    names = [name for name, _ in named(wrong)]
    assert {"BuilderFlag.FP17", "IBuilderConfig.set_flagg", "ICudaEngine.get_tensor_nam"} <= set(names)
    for name in ("BuilderFlag.FP17", "IBuilderConfig.set_flagg", "ICudaEngine.get_tensor_nam"):
        assert unknown_to_stubs(name, classes)
        assert unknown_to_rtx(name)
