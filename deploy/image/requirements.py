"""Print what some extras of deltaq need, from pyproject.toml beside this file.

So that an image has a layer of dependencies that a new version of deltaq leaves as it is.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needed = [*project["dependencies"], *(line for name in sys.argv[1:] for line in extras[name])]
print(*(line for line in needed if not line.startswith("deltaq[")), sep="\n")
