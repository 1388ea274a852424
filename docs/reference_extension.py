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


class ForReaders(griffe.Extension):
    """Makes Markdown of roles, and methods of what AsyncClient takes over from Client."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write in Markdown what docstrings have for Sphinx."""
        if obj.docstring:
            obj.docstring.value = _markdown(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Leave out how a class is made whose docstring has no arguments: programs do not."""
        if cls.docstring and "Args:" not in cls.docstring.value and "__init__" in cls.members:
            cls.del_member("__init__")

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
                docstring=_docstring(made),
                lineno=member.lineno,
                endlineno=member.endlineno,
            )
            if inspect.iscoroutinefunction(made):
                method.labels.add("async")
            async_client.set_member(name, method)


def _docstring(made: Any) -> griffe.Docstring:
    text = _markdown(inspect.getdoc(made) or "")
    return griffe.Docstring(text, parser="google", parser_options={})


def _markdown(text: str) -> str:
    return _ROLE.sub(r"`\1`", _BLOCK.sub("", text))
