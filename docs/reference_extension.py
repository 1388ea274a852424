"""What Griffe, which reads the docstrings for the reference, must be told of this code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|attr):`([\w.]+)`")
#: What announces a block that is indented; Markdown needs no announcement.
_BLOCK = re.compile(r"^::$|(?<=:):$", re.MULTILINE)
#: What a method of AsyncClient returns, by what makes it from that of Client.
_RETURNS = {"_submitting": "AsyncFuture[Outcome]", "_reading": "pa.Table", "_asking": None}


class ForReaders(griffe.Extension):
    """Makes Markdown of roles, and methods of what AsyncClient takes over from Client."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write in Markdown what docstrings have for Sphinx."""
        if obj.docstring:
            text = _BLOCK.sub("", obj.docstring.value)
            obj.docstring.value = _ROLE.sub(r"`\1`", text)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Give each method of AsyncClient the signature and docstring that it has at run time."""
        client = pkg["client.client.Client"]
        async_client = pkg["client.async_client.AsyncClient"]
        for name, member in list(async_client.members.items()):
            made_by = getattr(getattr(member, "value", None), "function", None)
            if str(made_by) not in _RETURNS:
                continue
            method = client.all_members[name]
            made = griffe.Function(
                name,
                parameters=method.parameters,
                returns=_RETURNS[str(made_by)] or method.returns,
                docstring=method.docstring,
                lineno=member.lineno,
                endlineno=member.endlineno,
            )
            made.labels.add("async")
            async_client.set_member(name, made)
