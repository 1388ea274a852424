"""The settings of Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field
from pydantic_settings import BaseSettings

from deltaq.tasks.s3_path import S3Path


class SparkSettings(BaseSettings):
    """Those of Spark, its cluster and its JARs."""

    spark: Literal["on", "off"] = Field("on", description="Off: no Spark and no Java needed.")
    spark_master: str = Field(
        "local[*]",
        pattern=r"^(local(-cluster)?\[[^\]]+\]|local|yarn|(spark|k8s)://.+)$",
        description="Where Spark's executors are: local[n] in the worker, else spark://host:7077, "
        "k8s://https://host:6443.",
    )
    spark_memory: str = Field("1g", pattern=r"^\d+[mg]$", description="Heap of the driver.")
    spark_executor_memory: str | None = Field(
        None, pattern=r"^\d+[mg]$", description="Heap of an executor. Default: Spark's, 1g."
    )
    spark_executor_cores: int | None = Field(
        None, gt=0, description="Cores of an executor. Default: 1, or all of a machine's."
    )
    spark_executors: int | None = Field(
        None,
        ge=0,
        description="Executors that a worker has. Default: all that a standalone cluster has.",
    )
    spark_executors_max: int | None = Field(
        None, gt=0, description="Executors that it may have while there is work for them."
    )
    spark_executors_wait: float = Field(
        120.0, gt=0, description="A cluster that gives none for so long is left, and joined again."
    )
    spark_driver_host: str | None = Field(
        None,
        description="Name or address by which executors find this worker. Default: the machine's.",
    )
    spark_image: str | None = Field(
        None,
        validate_default=True,
        description="Image of executors in Kubernetes, with the Spark that the worker has.",
    )
    spark_namespace: str | None = Field(
        None, description="Namespace of executors in Kubernetes. Default: default."
    )
    spark_claim: str | None = Field(
        None, description="Claim of the volume that executors in Kubernetes mount as the lake."
    )
    spark_conf: dict[str, str] = Field({}, description="More Spark settings.")
    jars: Path = Field(
        Path("~/.cache/deltaq/jars"), description="Folder where Delta's JARs are kept."
    )
    ivy_settings: Path | None = Field(
        None, description="Ivy settings for a Maven repository other than Maven Central."
    )

    @pydantic.field_validator("spark_executors_max")
    @classmethod
    def _not_fewer(cls, most: int | None, info: pydantic.ValidationInfo) -> int | None:
        least = info.data.get("spark_executors")
        if most is not None and least is not None and most < least:
            raise ValueError(f"fewer than spark_executors={least}")
        return most

    @pydantic.field_validator("spark_image")
    @classmethod
    def _of_pods(cls, image: str | None, info: pydantic.ValidationInfo) -> str | None:
        if image is None and str(info.data.get("spark_master")).startswith("k8s://"):
            raise ValueError("executors in Kubernetes need an image, as apache/spark:4.2.0")
        return image

    @pydantic.field_validator("spark_claim")
    @classmethod
    def _on_a_file_system(cls, claim: str | None, info: pydantic.ValidationInfo) -> str | None:
        if claim is not None and isinstance(info.data.get("lake"), S3Path):
            raise ValueError("a lake in S3 is mounted by nobody")
        return claim
