"""How a DeltaLakeManager is configured, and what it has in common with the class it replaces."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from deltaq.client import ConfigurationError, DeltaLakeManager
from deltaq.client.manager import has_queue
from deltaq.tasks.settings import load_settings

#: Names, order and defaults of peers' code that is to run unchanged.
SIGNATURES: dict[str, dict[str, Any]] = {
    "__init__": {"storage_path": "s3://finance-lake"},
    "create_or_update_table": {
        "df": ...,
        "table_name": ...,
        "partition_columns": None,
        "mode": "append",
    },
    "read_table": {"table_name": ..., "as_of_timestamp": None, "filters": None},
    "optimize_table": {"table_name": ..., "zorder_columns": None},
    "vacuum_table": {"table_name": ..., "retention_hours": 168},
    "merge_upsert": {"df": ..., "table_name": ..., "merge_keys": ..., "update_columns": None},
    "get_table_history": {"table_name": ...},
    "table_exists": {"table_name": ...},
    "delete_table": {"table_name": ...},
}


@pytest.mark.parametrize("method", SIGNATURES)
def test_the_signature_is_kept_and_additions_are_keyword_only(method: str) -> None:
    parameters = list(inspect.signature(getattr(DeltaLakeManager, method)).parameters.values())[1:]
    positional = {
        p.name: ... if p.default is p.empty else p.default
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
    }
    assert positional == SIGNATURES[method]
    added = [p for p in parameters if p.name not in positional]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in added)


@pytest.mark.parametrize("path", ["gs://finance-lake", "hdfs://b/t", "s3:/b/t"])
def test_a_url_is_never_taken_for_a_local_folder(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lake \(argument\)"):
        DeltaLakeManager(path)
    assert not Path(path.partition("/")[0]).exists()


def test_the_block_of_a_configuration_is_accepted(tmp_path: Path) -> None:
    block = {"enabled": True, "storage_path": str(tmp_path)}
    for config in ({"delta_lake": block, "enabled": 1}, {"delta_lake": block}, block):
        manager = DeltaLakeManager.from_config(config)
        assert manager is not None
        assert manager.settings.lake == tmp_path


@pytest.mark.parametrize(
    "config",
    [{}, {"delta_lake": {"enabled": False}}, {"enabled": False, "storage_path": "s3://x"}],
)
def test_what_is_not_enabled_is_no_manager(config: dict[str, Any]) -> None:
    assert DeltaLakeManager.from_config(config) is None


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"enabled": True, "storage_pth": "x"}, "delta_lake.storage_pth.*did you mean"),
        ({"enabled": "yes"}, "delta_lake must be"),
        ("on", "delta_lake must be"),
    ],
)
def test_a_block_that_cannot_be_meant_is_refused(block: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        DeltaLakeManager.from_config({"delta_lake": block})


def test_there_is_a_queue_where_somebody_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_queue(load_settings(lake=tmp_path))
    assert has_queue(load_settings(lake=tmp_path, redis_url="redis://localhost:6379/0"))
    monkeypatch.setenv("DELTAQ_REDIS_URL", "redis://elsewhere")
    assert has_queue(load_settings(lake=tmp_path))
    monkeypatch.delenv("DELTAQ_REDIS_URL")
    (tmp_path / "deltaq.toml").write_text('redis_url = "redis://elsewhere"')
    monkeypatch.setenv("DELTAQ_CONFIG", str(tmp_path / "deltaq.toml"))
    assert has_queue(load_settings(lake=tmp_path))
