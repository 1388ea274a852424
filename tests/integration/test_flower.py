"""When ``deltaq flower`` does not start, and what it says then."""

from __future__ import annotations

import socket

import pytest

from tests.support.shell import Shell


def test_flower_does_not_start_without_a_password(shell: Shell) -> None:
    code, out, err = shell.run("flower")

    assert (code, out) == (2, b"")
    assert "flower_auth is not set" in err
    assert "DELTAQ_FLOWER_AUTH=name:password" in err


@pytest.mark.parametrize("auth", ["s3cret", "s3cret:", ":s3cret", "ops:s3crét"])
def test_what_is_no_name_and_password_is_refused_and_not_shown(shell: Shell, auth: str) -> None:
    shell.env["DELTAQ_FLOWER_AUTH"] = auth

    code, _, err = shell.run("flower")

    assert code == 2
    assert "flower_auth (DELTAQ_FLOWER_AUTH): it must be a name and a password" in err
    assert "s3cr" not in err


def test_a_port_that_is_taken_is_told(shell: Shell) -> None:
    shell.env["DELTAQ_FLOWER_AUTH"] = "ops:s3cret"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = shell.run("flower", "--port", str(taken.getsockname()[1]))

    assert code == 2
    assert "Flower cannot listen on 127.0.0.1" in err
    assert "Address already in use" in err
    assert "s3cret" not in err
