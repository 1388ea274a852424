"""What Griffe, which reads the docstrings for the reference, must be told of this code."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

from deltaq.client import AsyncClient

_ROLE = re.compile(r":(?:class|func|meth|attr):`([\w.]+)`")
#: What announces a block that is indented; Markdown needs no announcement.
_BLOCK = re.compile(r"^::$|(?<=:):$", re.MULTILINE)
#: Arguments that all writing methods share are told once, with the class.
_SHARED = re.compile(r"^ *\w+: See (?:the class|there).*\n?", re.MULTILINE)


class ForReaders(griffe.Extension):
    """Makes Markdown of roles, and methods of what AsyncClient takes over from Client."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write in Markdown what docstrings have for Sphinx."""
        if obj.docstring:
            text = _SHARED.sub("", _BLOCK.sub("", obj.docstring.value))
            obj.docstring.value = _ROLE.sub(r"`\1`", text)

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Show what a default is, not what the module calls it."""
        for parameter in func.parameters:
            named = func.module.members.get(str(parameter.default))
            if isinstance(named, griffe.Attribute):
                parameter.default = named.value

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Give each method of AsyncClient the signature and docstring that it has at run time."""
        client = pkg["client.client.Client"]
        async_client = pkg["client.async_client.AsyncClient"]
        for name, member in list(async_client.members.items()):
            made = getattr(AsyncClient, name, None)
            if not (member.is_attribute and inspect.isfunction(made)):
                continue
            method = griffe.Function(
                name,
                parameters=client.all_members[name].parameters,
                returns=inspect.signature(made).return_annotation,
                docstring=client.all_members[name].docstring,
                lineno=member.lineno,
                endlineno=member.endlineno,
            )
            if inspect.iscoroutinefunction(made):
                method.labels.add("async")
            async_client.set_member(name, method)
