"""What all tests share.

A test marked `debian` wants a program that comes with a Debian package; elsewhere it skips and names both. Where the
packages were installed for the tests' sake (FCN_EDGE_REQUIRE_DEBIAN=1, set by .ci/run) such a skip is a failure.

Where torch was left out on purpose (FCN_EDGE_TORCH=no, as scripts/test reads it), what imports it skips and says so.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fcn-edge", deadline=None)  # a busy machine is no defect
settings.load_profile("fcn-edge")

# A shell has its background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXAMPLES = Path(__file__).parent.parent / "examples"
LEFT_OUT = {
    "lightning_fabric",
    "matplotlib",
    "onnxsim",
    "sklearn",
    "tensorboardX",
    "torch",
    "torchmetrics",
    "torchvision",
}


def is_left_out(error: BaseException | None) -> bool:
    left_out = LEFT_OUT if os.environ.get("FCN_EDGE_TORCH") == "no" else ()
    return isinstance(error, ModuleNotFoundError) and error.name in left_out


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    error = call.excinfo.value if call and call.excinfo else None
    if error and is_left_out(error.__cause__):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {error.__cause__}, left out by FCN_EDGE_TORCH=no")
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("debian"):
        for program, package in marker.kwargs.items():
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not there. Debian, Ubuntu: sudo apt install {package}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = os.environ.get("FCN_EDGE_REQUIRE_DEBIAN") == "1"
    if required and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("debian"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although Debian's packages are installed: {report.longrepr}"
    if report.failed and call.excinfo and is_left_out(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {call.excinfo.value}, left out by FCN_EDGE_TORCH=no")
    return report


@pytest.fixture(scope="session")
def cat() -> Path:
    """The photo of a cat that the repository ships, 451x300."""
    return EXAMPLES / "cat.jpg"


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """The photo of an astronaut that the repository ships, 512x512."""
    return EXAMPLES / "astronaut.jpg"
