"""uid and gid -> names, from the host's own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from identity_support import put

from xdpguard.identity.files import Notes
from xdpguard.identity.users import Accounts

PASSWD = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:100:Alice:/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nusers:x:100:alice,bob\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    put(tmp_path, "etc/passwd", PASSWD)
    put(tmp_path, "etc/group", GROUP)
    return tmp_path


def accounts(root: Path) -> Accounts:
    return Accounts(root, Notes())


def test_users_groups_and_homes_are_found_by_number(host: Path) -> None:
    known = accounts(host)
    assert (known.user(0), known.user(1000), known.group(100)) == ("root", "alice", "users")
    assert known.home(1000) == "/home/alice"


def test_the_user_is_looked_up_by_uid_and_not_by_another_number(host: Path) -> None:
    # The pid is a number too: looking the name up with it gave another user's.
    put(host, "etc/passwd", PASSWD + "mallory:x:4242:4242::/:/bin/sh\n")
    assert accounts(host).user(1000) == "alice"


def test_an_unknown_number_has_no_name(host: Path) -> None:
    known = accounts(host)
    assert (known.user(101000), known.group(101000), known.home(101000)) == (None, None, None)


def test_a_host_without_the_files_has_no_names_and_nothing_to_report(tmp_path: Path) -> None:
    notes = Notes()
    assert Accounts(tmp_path, notes).user(0) is None
    assert notes.lines() == ()


@pytest.mark.parametrize(
    "line",
    ["", "#x", "+::::::", "x:x:abc:0::/:/bin/sh", "x:x:-5:5::/:/bin/sh", "x:x:5:5:/:/bin/sh",
     ":x:5:5::/:/bin/sh", "x:x:²:5::/:/bin/sh", "x:x:99999999999:5::/:/bin/sh"],
)  # fmt: skip
def test_a_line_of_another_form_is_skipped(line: str, host: Path) -> None:
    put(host, "etc/passwd", f"{line}\n{PASSWD}")
    assert accounts(host).user(1000) == "alice"
    assert accounts(host).user(5) is None


def test_the_first_line_of_a_number_wins(host: Path) -> None:
    put(host, "etc/passwd", PASSWD + "toor:x:0:0::/root:/bin/sh\n")
    assert accounts(host).user(0) == "root"


@pytest.mark.parametrize("home", ["", "relative", "/a\0b"])
def test_a_home_that_is_no_absolute_path_is_no_home(home: str, host: Path) -> None:
    put(host, "etc/passwd", f"x:x:7:7::{home}:/bin/sh\n")
    assert accounts(host).user(7) == "x"
    assert not (accounts(host).home(7) or "").startswith("relative")


def test_a_changed_file_is_read_again(host: Path) -> None:
    known = accounts(host)
    assert known.user(1001) is None
    put(host, "etc/passwd.new", PASSWD + "bob:x:1001:100::/home/bob:/bin/sh\n").replace(host / "etc/passwd")
    assert known.user(1001) == "bob"


def test_an_unchanged_file_is_not_read_again(host: Path) -> None:
    known = accounts(host)
    assert known.user(1000) == "alice"
    file = host / "etc/passwd"
    before = file.stat()
    file.write_text(PASSWD.replace("alice", "ALICE"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.user(1000) == "alice"


def test_a_file_that_is_gone_takes_its_names_along(host: Path) -> None:
    known = accounts(host)
    assert known.user(0) == "root"
    (host / "etc/passwd").unlink()
    assert known.user(0) is None


def test_a_name_that_is_not_utf_8_is_kept(host: Path) -> None:
    (host / "etc/passwd").write_bytes(b"\xe9:x:5:5::/:/bin/sh\n")
    assert os.fsencode(accounts(host).user(5) or "") == b"\xe9"
