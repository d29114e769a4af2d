"""The entry point: finds the command, and turns errors into one line and an exit status.

0 done, 1 the input or the environment is wrong, 2 usage, 130 and 143 on SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

import fcn_edge
from fcn_edge.cli import bench, build, calib, doctor, evaluate, export, inspect, models, recommend, report, run, train
from fcn_edge.errors import FcnEdgeError, UsageError

CLICK_USAGE_ERROR = typer.BadParameter.__mro__[1]  # click's, wherever this version of typer keeps click
OPENCV = {  # read when cv2 is imported, which the commands do; what the user has set stays
    "OPENCV_IO_MAX_IMAGE_PIXELS": "200000000",  # 1.7 GB until the overlay is written; its own limit would take 8
    "OPENCV_LOG_LEVEL": "OFF",  # it would print its own line beside ours
}

app = typer.Typer(
    name="fcn-edge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help takes 0.2 s to load
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (run, evaluate, train, export, calib, build, bench, inspect, models, report, recommend, doctor):
    command.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fcn-edge {fcn_edge.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="With any command: show the traceback of an error.")] = False,
) -> None:
    """Fully convolutional segmentation networks, from PyTorch to the edge."""


def main() -> NoReturn:
    """Run the command line; exits with the statuses that this module's docstring lists."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]  # so that it may stand anywhere
    for name, value in OPENCV.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(arguments, prog_name="fcn-edge", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except typer.Abort:  # what some versions of typer make of an interrupt
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the last flush complains
        status = 1
    except Exception as error:
        if debug:
            raise
        status = _told(error)
    sys.exit(status if isinstance(status, int) else 0)


def _told(error: Exception) -> int:
    """Prints the line of an error that has one and returns its status; raises the others, which are defects."""
    if isinstance(error, FcnEdgeError | UsageError):
        line, status = str(error), 2 if isinstance(error, UsageError) else 1
    elif isinstance(error, CLICK_USAGE_ERROR):
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            return 2
        context = getattr(error, "ctx", None)
        hint = f" Try: {context.command_path} --help" if context else ""
        line, status = f"{error.format_message().rstrip('.')}.{hint}", 2  # type: ignore[attr-defined]
    elif isinstance(error, MemoryError):
        line, status = f"out of memory: {str(error) or 'the input is too large for this machine'}.", 1
    elif isinstance(error, ImportError) and (mend := _explain(error)):
        line, status = mend, 1
    else:
        raise error
    print(f"fcn-edge: {line}", file=sys.stderr)
    return status


def _explain(error: ImportError) -> str | None:
    from fcn_edge import opencv

    return opencv.explain(error)


def _terminate(signum: int, frame: object) -> NoReturn:
    """SIGTERM ends like an exception, so that what is open is closed."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
