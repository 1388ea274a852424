"""Flower as an operator runs it, and a browser that looks at it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.programs import environment
from tests.support.waiting import wait_until

AUTH = "ops:flower-door-secret"
#: Debian's packages, as the Makefile installs them.
PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}

_LISTENS = re.compile(r"Flower listens on (http://[\w.:]+)")


class FlowerServer:
    """A process that runs ``deltaq flower``.

    Args:
        log: Where its output goes.
        settings: Settings besides the password, which is in a file.
    """

    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self.log = log
        password = log.with_suffix(".password")
        password.write_text(AUTH + "\n")
        given = {f"DELTAQ_{name.upper()}": value for name, value in settings.items()}
        env = environment(DELTAQ_FLOWER_AUTH_FILE=str(password), **given)
        command = [sys.executable, "-m", "deltaq.client.cli", "flower", "--port", "0"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        wait_until(self._listens, within=60, saying=log.read_text)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return bool(_LISTENS.search(self.log.read_text()))

    @property
    def url(self) -> str:
        found = _LISTENS.search(self.log.read_text())
        assert found
        return found[1]

    def stop(self) -> int:
        """End it in order and return its exit code."""
        self.process.terminate()
        return self.process.wait(30)


class Browser:
    """Debian's Chromium without a window, logged in to a Flower."""

    def __init__(self, url: str, *, width: int = 1400, height: int = 900) -> None:
        missing = [package for name, package in PACKAGES.items() if not shutil.which(name)]
        assert not missing, f"apt-get install --no-install-recommends {' '.join(missing)}"
        options = ChromeOptions()
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
            *("--hide-scrollbars", f"--window-size={width},{height}"),
        ):
            options.add_argument(argument)
        options.binary_location = str(shutil.which("chromium"))
        service = ChromeService(executable_path=str(shutil.which("chromedriver")))
        self.driver = Chrome(options=options, service=service)
        self.url = url
        token = base64.b64encode(AUTH.encode()).decode()
        self.driver.execute_cdp_cmd("Network.enable", {})
        headers = {"headers": {"Authorization": f"Basic {token}"}}
        self.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)

    def open(self, page: str) -> str:
        """Open a page and return its source."""
        self.driver.get(self.url + page)
        return str(self.driver.page_source)

    def api(self, path: str) -> Any:
        """Ask Flower's API."""
        self.open(path)
        return json.loads(self.find("body")[0].text)

    def find(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def rows(self, page: str, table: str) -> list[dict[str, str]]:
        """Read a table of a page: for each row, the text of its cells by their headings."""
        self.open(page)
        wait_until(lambda: self._is_loaded(table), within=20)
        script = """
            const rows = [...document.querySelectorAll(`#${arguments[0]} tbody tr`)];
            const heads = [...document.querySelectorAll(`#${arguments[0]} thead th`)];
            return rows.map(row => Object.fromEntries(
                [...row.cells].map((cell, n) => [heads[n].textContent.trim(), cell.textContent.trim()])
            ));
        """
        found: Any = self.driver.execute_script(script, table)
        return list(found)

    def _is_loaded(self, table: str) -> bool:
        """Tell whether a table shows what its script has fetched, not what came with the page."""
        script = """
            const table = `#${arguments[0]}`, made = window.$ && $.fn.dataTable;
            return !!made && made.isDataTable(table)
                && !!$(table).dataTable().fnSettings()._bInitComplete;
        """
        return bool(self.driver.execute_script(script, table))

    def facts(self, page: str) -> dict[str, str]:
        """Read the details on a page, by their headings."""
        self.open(page)
        script = """
            const rows = [...document.querySelectorAll(".detail-row")];
            return Object.fromEntries(rows.map(row => [...row.children].map(c => c.innerText.trim())));
        """
        return dict(self.driver.execute_script(script))

    def tasks(self) -> list[dict[str, str]]:
        """Read the newest tasks."""
        return self.rows("/tasks", "tasks-table")

    def workers(self) -> list[dict[str, str]]:
        """Read the list of workers."""
        return self.rows("/workers", "workers-table")


@contextmanager
def browser(url: str, **size: int) -> Iterator[Browser]:
    """Run a browser for the length of a block."""
    made = Browser(url, **size)
    try:
        yield made
    finally:
        made.driver.quit()
