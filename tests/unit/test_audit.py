"""What the audit of installed packages says: found, clean, or not asked."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from tests.support.pages import ROOT

_spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
assert _spec is not None
assert _spec.loader is not None
audit: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

CLEAN = {"name": "clean", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1"}]}
UNKNOWN = {"name": "ours", "skip_reason": "not there"}


def said(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages})


def test_a_vulnerable_package_fails_and_is_named() -> None:
    assert audit.verdict(1, said(CLEAN, BAD), "") == (1, "bad 2: CVE-1\n2 packages looked up")


def test_clean_packages_pass_and_those_left_out_are_counted() -> None:
    assert audit.verdict(0, said(CLEAN), "") == (0, "1 packages looked up")
    assert audit.verdict(0, said(CLEAN, UNKNOWN), "")[1] == "1 packages looked up, 1 SKIPPED"


def test_where_nobody_could_be_asked_that_is_said() -> None:
    away = "Traceback ...\nrequests.exceptions.ConnectionError: no such host"
    code, told = audit.verdict(1, "", away)
    assert code == 0
    assert told.startswith("SKIPPED, not passed")
    assert "no such host" in told
    assert audit.verdict(0, said(UNKNOWN), "") == (
        0,
        "SKIPPED, not passed: none of 1 packages could be looked up",
    )


def test_any_other_failure_is_one() -> None:
    code, told = audit.verdict(2, "", "usage: pip-audit")
    assert (code, told) == (2, "pip-audit failed: usage: pip-audit")
