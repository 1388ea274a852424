"""The verb for the upkeep of a table: its policy and what that brings, what to do, what was done."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from deltaq.client.cli_submitting import awaited, describe_outcome
from deltaq.client.client import Client
from deltaq.client.overview import counted
from deltaq.client.tabular import as_json as json_of
from deltaq.client.tabular import show_table
from deltaq.tasks.policy import Policy, default_policy, policy_properties, table_policy
from deltaq.tasks.settings import load_settings
from deltaq.tasks.suggest import did_you_mean
from deltaq.tasks.verbs import TABLE, Json, Lake, RedisUrl, TableName, Timeout

app = typer.Typer()

#: Newest commits among which maintenance is looked for.
_LOOKED_THROUGH = 1000
#: Operations that are maintenance, in Delta's words and in ours.
_MAINTENANCE = ("OPTIMIZE", "VACUUM", "CHECKPOINT")

Wish = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change the policy: "
        f"{', '.join(Policy.__struct_fields__)}; columns of zorder with commas; repeatable.",
        show_default=False,
    ),
]


@app.command(rich_help_panel=TABLE)
def maintain(
    table: TableName,
    run: Annotated[bool, typer.Option("--run", help="Compact it now.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="List what was done, and why.")
    ] = False,
    wishes: Wish = None,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Tell what the upkeep of a table is: its policy, how it is stored, what to do about that.

    Example: deltaq maintain prices --set compact_files=20 --run
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        if wishes:
            chosen = dict(map(_wish, wishes))
            policy_properties(chosen)  # names the one that there is not
            awaited(client.set_policy(table, **chosen), timeout)
        if run:
            outcome = awaited(client.optimize(table, block=True, timeout=timeout), timeout)
            typer.echo(describe_outcome(outcome), err=True)
        if history:
            _show_history(client, table, timeout, as_json)
            return
        told = client.analyze(table, timeout=timeout)
        detail = client.detail(table, timeout=timeout)
        policy = table_policy(
            detail["properties"], default_policy(load_settings(lake=lake, redis_url=redis_url))
        )
    told["suggestions"] += _absent(policy, [column["name"] for column in detail["schema"]])
    if as_json:
        chosen = {"policy": msgspec.structs.asdict(policy), "plan": planned(policy)}
        typer.echo(json_of({**chosen, **told}))
        return
    _show(table, policy, told)


def planned(policy: Policy) -> list[str]:
    """Say what workers will do by a policy, and when."""
    plan = []
    if policy.compact_files:
        plan.append(
            f"compact when a partition has more than {policy.compact_files} small files, or the "
            "table sleeps with far more files than it needs"
        )
    if policy.zorder and policy.zorder_hours:
        plan.append(f"order by {', '.join(policy.zorder)} every {policy.zorder_hours} hours")
    if policy.vacuum_hours:
        plan.append(f"remove once a day what no version of {policy.vacuum_hours} hours needs")
    if plan and policy.hours != "always":
        plan = [f"{line}, in {policy.hours} UTC only" for line in plan]
    return [*plan, f"write a checkpoint every {policy.checkpoint_commits} commits"]


def _wish(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    if name == "zorder":
        return name, [column for column in value.split(",") if column]
    return name, value


def _absent(policy: Policy, columns: list[str]) -> list[str]:
    """Tell of columns in a policy that the table lacks, by which workers do not order."""
    return [
        f"the policy orders by {name!r}, and there is no such column{did_you_mean(name, columns)}"
        for name in policy.zorder
        if name not in columns
    ]


def _show(table: str, policy: Policy, told: dict[str, Any]) -> None:
    rows = "unknown" if told["rows"] is None else f"{told['rows']:,}"
    typer.echo(
        f"{table}: {counted(told['files'], 'file')} ({told['needed_files']:,} would do), "
        f"{told['size_bytes']:,} bytes, {rows} rows, {counted(told['partitions'], 'partition')}"
    )
    wishes = [f"{name}={_plain(getattr(policy, name))}" for name in policy.__struct_fields__]
    typer.echo(f"policy: {' '.join(wishes)}")
    for line in planned(policy):
        typer.echo(f"  will {line}")
    show_table(
        ["files below", "files", "bytes"],
        (
            [_bytes(b["below_bytes"]), f"{b['files']:,}", f"{b['size_bytes']:,}"]
            for b in told["file_sizes"]
        ),
    )
    for suggestion in told["suggestions"] or ["nothing to do"]:
        typer.echo(suggestion)


def _plain(value: Any) -> str:
    return ",".join(value) or "none" if isinstance(value, tuple) else str(value)


def _bytes(limit: int | None) -> str:
    if limit is None:
        return "any size"
    return f"{limit // 1024:,} KiB" if limit < 1 << 20 else f"{limit // (1 << 20):,} MiB"


def _show_history(client: Client, table: str, timeout: float, as_json: bool) -> None:
    commits = client.history(table, _LOOKED_THROUGH, timeout=timeout).to_pylist()
    done = [c for c in commits if _is_maintenance(c)]
    if as_json:
        for commit in done:
            typer.echo(json_of({name: commit[name] for name in ("version", "timestamp", "user")}))
        return
    if not done:
        typer.echo(f"no maintenance in the last {len(commits):,} commits", err=True)
        return
    show_table(
        ["version", "when", "operation", "why"],
        (
            [
                str(c["version"]),
                f"{c['timestamp']:%Y-%m-%d %H:%M:%S}",
                _operation(c),
                c["user"] or "",
            ]
            for c in done
        ),
    )


def _operation(commit: dict[str, Any]) -> str:
    """Name what a commit did as its note does, for native's own word is WRITE."""
    note = commit["userMetadata"] or ""
    found = next((word for word in _MAINTENANCE if f'"operation":"{word.lower()}"' in note), None)
    return (found or commit["operation"]).lower()


def _is_maintenance(commit: dict[str, Any]) -> bool:
    return _operation(commit).upper().startswith(_MAINTENANCE)
