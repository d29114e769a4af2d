"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fcn_edge.files import BLOCK, digest, replacing, sha256


def test_the_file_gets_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_after_a_failure_the_old_file_stands_alone(kind: type[BaseException], tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise kind

    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(kind):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_the_first_byte_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "model.onnx"):
        pass
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_path_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_that_write_one_path_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    body = (
        "import sys; from pathlib import Path; from fcn_edge.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary, temporary.open('w') as file:\n"
        "    file.write(sys.argv[2] * 1000); file.flush(); print(temporary.name, flush=True); sys.stdin.readline()\n"
        "    file.write(sys.argv[2] * 1000)\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", body, path, letter], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for letter in "ab"
    ]
    assert len({writer.stdout.readline() for writer in writers if writer.stdout}) == 2  # both have begun
    for writer, letter in zip(writers, "ab", strict=True):
        writer.communicate("\n")
        assert writer.returncode == 0
        assert path.read_text() == letter * 2000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_the_hash_is_that_of_all_blocks(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(i % 251 for i in range(size))
    path.write_bytes(data)
    assert sha256(path) == hashlib.sha256(data).hexdigest()
    assert digest(path, "md5") == hashlib.md5(data).hexdigest()
