"""Look up what is installed among known vulnerabilities; say aloud when nobody could be asked.

A machine without a way to the advisory service must neither fail here nor seem to have passed.
"""

from __future__ import annotations

import json
import subprocess
import sys

_COMMAND = ("pip_audit", "--vulnerability-service", "osv", "--skip-editable", "--format", "json")
#: What pip-audit's traceback ends with when the service cannot be reached.
_AWAY = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError")


def verdict(code: int, said: str, complained: str) -> tuple[int, str]:
    """Make an exit code and a line for people of what pip-audit answered."""
    try:
        packages = json.loads(said)["dependencies"]
    except (ValueError, KeyError):
        if any(word in complained for word in _AWAY):
            last = complained.strip().splitlines()[-1]
            return 0, f"SKIPPED, not passed: the advisory service cannot be asked: {last}"
        return code or 1, f"pip-audit failed: {complained.strip()}"
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return 0, f"SKIPPED, not passed: none of {len(packages)} packages could be looked up"
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}"
        for package in asked
        for vulnerability in package["vulns"]
    ]
    left_out = len(packages) - len(asked)
    asked_of = f"{len(asked)} packages looked up" + (f", {left_out} SKIPPED" if left_out else "")
    return (1 if found else 0), "\n".join([*found, asked_of])


def main() -> int:
    """Run pip-audit on this environment."""
    ran = subprocess.run(
        [sys.executable, "-m", *_COMMAND, "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    code, told = verdict(ran.returncode, ran.stdout, ran.stderr)
    print(f"pip-audit: {told}")
    return code


if __name__ == "__main__":
    sys.exit(main())
