"""Rule files on disk: which are read, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_rules_support import file_of, written

from xdpguard.errors import RulesError
from xdpguard.rules import source
from xdpguard.rules.parse import load_file


def refused(path: Path) -> list[str]:
    with pytest.raises(RulesError) as caught:
        load_file(path)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_a_good_file_is_loaded_under_the_name_it_was_given(tmp_path: Path) -> None:
    path = written(tmp_path / "r.yaml", file_of("{name: a, action: drop}"))
    assert load_file(str(path)).file == str(path)
    assert [rule.name for rule in load_file(path).ingress.rules] == ["a"]


def test_a_missing_file_is_one_error_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refused(path) == [f"{path}: error: cannot be read: No such file or directory"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path) == [f"{tmp_path}: error: is a folder, not a file"]


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == [f"{tmp_path}/pipe: error: is not a regular file"]


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert refused(tmp_path / "r.yaml") == [f"{tmp_path}/r.yaml: error: cannot be read: Permission denied"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.yaml", "")
    assert refused(path) == [f"{path}: error: the file is empty; the least is 'version: 1'"]


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_SIZE", 1 << 20)
    good = written(tmp_path / "good.yaml", "version: 1\n".ljust(1 << 20, "#"))
    assert load_file(good).ingress.rules == ()
    path = written(tmp_path / "r.yaml", "version: 1\n".ljust((1 << 20) + 1, "#"))
    assert refused(path) == [f"{path}: error: is larger than 1 MiB"]


def test_the_size_limit_is_the_promised_one() -> None:
    assert source.MAX_SIZE == 64 * 1024 * 1024


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("mode", [0o646, 0o666, 0o602])
def test_root_refuses_a_file_that_everybody_can_write(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "r.yaml", "version: 1", mode)
    words = f"can be written by every user (mode {mode:04o}) and is not read as root; chmod o-w it first"
    assert refused(path) == [f"{path}: error: {words}"]


def status(mode: int, group: int) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, 0, group, 1, 0, 0, 0))


@pytest.mark.usefixtures("as_root")
def test_root_refuses_a_file_that_another_group_can_write() -> None:
    assert "can be written by group 50" in source._distrust(status(0o664, 50))
    assert source._distrust(status(0o664, 0)) == ""
    assert source._distrust(status(0o644, 50)) == ""


@pytest.mark.usefixtures("as_user")
def test_a_user_may_read_what_everybody_can_write(tmp_path: Path) -> None:
    assert load_file(written(tmp_path / "r.yaml", "version: 1", 0o666)).ingress.rules == ()


def test_a_path_that_is_no_text_is_shown_with_escapes() -> None:
    assert source.shown_path(os.fsdecode(b"/a\xff\n\x1b")) == "/a\\xff\\n\\x1b"


# ---- files that are held


def test_files_that_are_held_are_taken_for_those_on_the_disk_and_no_others_are(tmp_path: Path) -> None:
    held = {"/none/r.yaml": b"version: 1\nsets: {s: {file: s.txt}}\n", "/none/s.txt": b"192.0.2.1\n"}
    sources = source.Sources(held)
    assert load_file("/none/r.yaml", sources=sources).file == "/none/r.yaml"
    assert sources.held() == held
    path = written(tmp_path / "s.txt", "192.0.2.1\n")
    held["/none/r.yaml"] = f"version: 1\nsets: {{s: {{file: {path}}}}}\n".encode()
    with pytest.raises(RulesError) as caught:
        load_file("/none/r.yaml", sources=source.Sources(held))
    assert "is not among the files that were kept" in str(caught.value)
