"""The settings of where tables and staged files are, and of S3."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import pydantic
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from deltaq.tasks.location import Location, parse_location
from deltaq.tasks.s3 import S3Options
from deltaq.tasks.s3_path import S3Path


def _first_set(*variables: str) -> str | None:
    """Read the first of AWS's own variables that is set."""
    return next((found for name in variables if (found := os.environ.get(name))), None)


class StorageSettings(BaseSettings):
    """Those of lake, staging area and S3."""

    model_config = SettingsConfigDict(arbitrary_types_allowed=True)

    s3_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/@]+/?$",
        description="URL of an S3 server that is not AWS, as http://minio:9000.",
    )
    s3_region: str | None = Field(
        None, pattern=r"^[a-z0-9-]+$", description="Region of the buckets. Default: us-east-1."
    )
    s3_path_style: bool | None = Field(
        None,
        description="The bucket is in a URL's path, not in its host. Default: with s3_endpoint.",
    )
    s3_access_key_id: str | None = Field(
        None,
        description="Account at S3. Default: as AWS's tools find it: environment, profile, web "
        "identity, instance.",
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Its key.")
    s3_session_token: SecretStr | None = Field(None, description="Its token, if it needs one.")
    # After those by which an s3:// is reached.
    lake: Location = Field(
        description="Folder of the tables, a path or s3://bucket/folder; a table is a folder in it."
    )
    staging: Location | None = Field(
        None, description="Folder of the staged files. Default: '.deltaq' in the lake."
    )
    backfill_sources: Annotated[tuple[Location, ...], NoDecode] = Field(
        (),
        description="Folders, or s3://bucket/folder, from which workers load files; in the "
        "environment, with commas between them. Default: none, so that files are uploaded.",
    )

    @pydantic.field_validator("lake", "staging", mode="before")
    @classmethod
    def _placed(cls, given: object, info: pydantic.ValidationInfo) -> object:
        if given is None or isinstance(given, S3Path):
            return given
        return parse_location(str(given), cls._s3_options(info.data))

    @pydantic.field_validator("s3_path_style")
    @classmethod
    def _with_a_name(cls, path_style: bool | None, info: pydantic.ValidationInfo) -> bool | None:
        host = urlsplit(str(info.data.get("s3_endpoint") or "")).hostname or ""
        if path_style is False and re.fullmatch(r"[\d.]+|.*:.*", host):
            raise ValueError(
                f"s3_endpoint has the address {host}, which no bucket can be put before"
            )
        return path_style

    @pydantic.field_validator("s3_secret_access_key")
    @classmethod
    def _of_an_account(cls, key: SecretStr | None, info: pydantic.ValidationInfo) -> Any:
        if (key is None) != (info.data.get("s3_access_key_id") is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key come together")
        return key

    @staticmethod
    def _s3_options(values: dict[str, Any]) -> S3Options:
        endpoint = values.get("s3_endpoint") or _first_set(
            "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"
        )
        path_style = values.get("s3_path_style")
        secret, token = values.get("s3_secret_access_key"), values.get("s3_session_token")
        return S3Options(
            endpoint=endpoint and endpoint.rstrip("/"),
            region=values.get("s3_region") or _first_set("AWS_REGION", "AWS_DEFAULT_REGION"),
            path_style=endpoint is not None if path_style is None else path_style,
            access_key_id=values.get("s3_access_key_id"),
            secret_access_key=secret.get_secret_value() if secret else None,
            session_token=token.get_secret_value() if token else None,
        )

    @pydantic.field_validator("backfill_sources", mode="before")
    @classmethod
    def _folders(cls, folders: object, info: pydantic.ValidationInfo) -> object:
        named = folders.split(",") if isinstance(folders, str) else folders
        if not isinstance(named, list | tuple):
            raise ValueError("it must be a list of folders")
        options = cls._s3_options(info.data)
        return [parse_location(str(folder).strip(), options) for folder in named]

    @property
    def staging_root(self) -> Location:
        """Where staged files are. '.deltaq' can not be the name of a table."""
        return self.staging or self.lake / ".deltaq"
