"""Who submits: a setting, or the account and the machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deltaq.client.users import user_of
from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.request import Append, Lane
from deltaq.tasks.settings import load_settings
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.ledger import note, parse_note
from tests.support.requests import make_append


def test_a_user_is_what_the_setting_says_else_account_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")

    assert user_of(load_settings(lake=tmp_path)) == f"ann@{socket.gethostname()}"
    assert user_of(load_settings(lake=tmp_path, user="nightly load")) == "nightly load"


def test_an_account_without_a_name_is_told_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)

    assert user_of(load_settings(lake=tmp_path)).startswith("987654@")


@pytest.mark.parametrize("user", ["", "a" * 101, "a\nb", "\x1b[2J"])
def test_a_user_that_would_spoil_a_screen_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(ConfigurationError, match="user"):
        load_settings(lake=tmp_path, user=user)


def test_a_note_names_each_user_once_and_not_more_than_there_is_room_for() -> None:
    many: list[Append] = [make_append(submitted_by=f"user{n % 30}") for n in range(60)]

    written = parse_note(note(_group(many)))

    assert written is not None
    assert written.users == [f"user{n}" for n in range(20)]


def test_a_note_of_an_older_worker_is_read() -> None:
    assert "users" not in note(_group([make_append()]))
    written = parse_note('{"deltaq":"deltaq/epoch/live","requests":[[1,"r"]],"operation":"append"}')
    assert written is not None
    assert written.users == []


def _group(requests: list[Append]) -> CommitGroup:
    members = (Waiting(sequence=n, request=request) for n, request in enumerate(requests))
    return CommitGroup(
        table="prices", lane=Lane.LIVE, app_id="deltaq/epoch/live", members=tuple(members)
    )
