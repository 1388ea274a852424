"""Whether a folder in S3 can be used: found out before anything depends on it."""

from __future__ import annotations

import logging
import secrets
import time

from deltalake import DeltaTable

from deltaq.tasks.errors import ConfigurationError, StorageUnavailable
from deltaq.tasks.s3 import LASTING
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings
from deltaq.worker.engines.native_errors import FOREIGN

logger = logging.getLogger(__name__)


def require_s3(settings: Settings) -> None:
    """Refuse a lake or staging area in S3 that no waiting will make usable.

    A server that is not there now is warned of: requests wait for it.

    Raises:
        ConfigurationError: One of them cannot be used.
    """
    for folder in (settings.lake, settings.staging_root):
        if not isinstance(folder, S3Path):
            continue
        try:
            try_s3(folder)
        except StorageUnavailable as exc:
            logger.warning("%s; requests wait until it can", exc)
            return


def try_s3(folder: S3Path) -> float:
    """Read, write and remove in a folder, and see that a second create is refused.

    Returns:
        Seconds that the write took.

    Raises:
        ConfigurationError: It cannot be used: bucket, region, account, clock, or a server without
            conditional put, which is said.
        StorageUnavailable: The server is not there, or in trouble, now.
    """
    probe = folder / ".deltaq-probe" / secrets.token_hex(8)
    try:
        folder.is_dir()
        began = time.perf_counter()
        with probe.create() as written:
            written.write(b"deltaq")
        seconds = time.perf_counter() - began
        _check_create(probe)
        probe.unlink(missing_ok=True)
        if folder.bucket.options.access_key_id is None:
            _check_delta(folder)
    except OSError as exc:
        kind = ConfigurationError if exc.errno in LASTING else StorageUnavailable
        raise kind(f"{folder}: cannot be used: {exc.strerror or exc}") from exc
    return seconds


def _check_delta(folder: S3Path) -> None:
    """See that delta-rs gets there, too: it finds its credentials by itself."""
    try:
        DeltaTable.is_deltatable(f"{folder}/.deltaq-probe", folder.bucket.delta_options)
    except FOREIGN as exc:
        raise ConfigurationError(
            f"{folder}: cannot be reached by delta-rs, although obstore reaches it: "
            f"{str(exc).strip()[:500]}"
        ) from exc


def _check_create(probe: S3Path) -> None:
    try:
        with probe.create() as written:
            written.write(b"again")
    except FileExistsError:
        return
    probe.unlink(missing_ok=True)
    raise ConfigurationError(
        f"{probe.bucket.options.endpoint or 'the server'} overwrites what is there when it is "
        "asked not to (If-None-Match): it has no conditional put, and two workers would lose "
        "each other's commits; use a server that has it"
    )
