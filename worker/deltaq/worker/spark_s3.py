"""What Spark is told about S3: pure, from the same options as everything else that uses it."""

from __future__ import annotations

from deltaq.tasks.s3 import DEFAULT_REGION, S3Options
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings

_S3A = "spark.hadoop.fs.s3a."
#: Environment, web identity, profile, container and instance, in this order. Hadoop's own default
#: knows neither profiles nor web identities.
_CHAIN = "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
_FIXED = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
_FIXED_FOR_A_TIME = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"


def s3_options(settings: Settings) -> S3Options | None:
    """Tell how S3 is reached, if lake or staging area are there."""
    for place in (settings.lake, settings.staging):
        if isinstance(place, S3Path):
            return place.bucket.options
    return None


def s3_conf(options: S3Options) -> dict[str, str]:
    """Make the Spark settings by which ``s3a://``, and ``s3://``, are reached.

    There may be secrets in it: it goes into the file of settings that only this user may read and
    that is removed when Spark has read it, never on a command line.
    """
    conf = {
        # Delta's own store lets another process replace a commit of this one; see worker/java.
        "spark.delta.logStore.s3a.impl": "deltaq.S3LogStore",
        "spark.delta.logStore.s3.impl": "deltaq.S3LogStore",
        # So that a path may be written as everywhere else.
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        f"{_S3A}path.style.access": str(options.path_style).lower(),
        f"{_S3A}connection.ssl.enabled": str(not options.is_plain).lower(),
        # Another stream wants a library of 6 MB; and calls whose only use is to refuse.
        f"{_S3A}input.stream.type": "classic",
        f"{_S3A}performance.flags": "create,mkdir,delete",
    }
    if options.endpoint:
        conf[f"{_S3A}endpoint"] = options.endpoint
    if options.region or options.endpoint:  # without both, AWS says in which region a bucket is
        conf[f"{_S3A}endpoint.region"] = options.region or DEFAULT_REGION
    return conf | _credentials(options)


def _credentials(options: S3Options) -> dict[str, str]:
    provider = f"{_S3A}aws.credentials.provider"
    if options.access_key_id is None or options.secret_access_key is None:
        return {provider: _CHAIN}
    given = {
        f"{_S3A}access.key": options.access_key_id,
        f"{_S3A}secret.key": options.secret_access_key,
    }
    if options.session_token is None:
        return {provider: _FIXED, **given}
    return {provider: _FIXED_FOR_A_TIME, **given, f"{_S3A}session.token": options.session_token}
