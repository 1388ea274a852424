"""A thousand hostile inputs: each a typed error, and the worker goes on as if nothing were.

In each test hypothesis makes the inputs; all meet the same worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deltaq.client import Client, DeltaqError
from deltaq.client.frames import to_rows
from deltaq.client.staging import stage
from deltaq.tasks import keys
from deltaq.tasks.errors import StagedDataMissing
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane, Overwrite
from deltaq.tasks.staging import FOOTER_KEY
from deltaq.worker import System, embedded
from tests.support.hostile import TRICKS, Attacker, frames, texts, values, wires
from tests.support.requests import make_append, make_request

#: Examples of each test; together they are more than a thousand.
NAMES, FRAMES, WIRES, MESSAGES, FILES = 300, 150, 250, 200, 200
GOOD = pa.table({"n": [1]})

pytestmark = pytest.mark.timeout(180)


def hostile(examples: int) -> Any:
    """Make so many examples, the same ones each time, of a test with costly fixtures."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # a smaller example would take minutes to find
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker for all tests; at the end it must be the same, and the lake have no neighbour."""
    folder = tmp_path_factory.mktemp("hostile")
    with embedded(folder / "lake", spark="off") as system:
        system.wait_ready()
        yield system
    assert [path.name for path in folder.iterdir()] == ["lake"]
    assert not Path("/tmp/evil").exists()


@pytest.fixture
def attacker(system: System) -> Iterator[Attacker]:
    """Whoever has got at Redis; afterwards the same worker serves a good request."""
    before = system.worker_pids
    attacker = Attacker(system)
    yield attacker
    with system.client() as client:
        assert client.append("good", GOOD).result(30).state is State.COMMITTED
        assert client.read("good", limit=1).result(30).num_rows == 1
    assert system.worker_pids == before
    names = {path.name for path in system.settings.lake.iterdir()}
    assert not {name for name in names if not name.isascii() or name == "evil"}, names
    attacker.redis.close()


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[Client]:
    with system.client() as client:
        yield client


def check_typed(error: BaseException | None) -> None:
    """Hold an error to be one of ours that says that the input is wrong, if there is one."""
    if error is not None:
        assert isinstance(error, DeltaqError), error
        assert not error.retryable, error


def told(future: Any) -> None:
    """Wait for a future, which may fail only with an error of ours."""
    check_typed(future.exception(30))


@hostile(NAMES)  # type: ignore[untyped-decorator]
@given(data=st.data())
def test_hostile_names_are_refused_with_a_typed_error(
    attacker: Attacker, client: Client, data: st.DataObject
) -> None:
    table = data.draw(texts)
    options = {
        name: data.draw(values, label=name)
        for name in data.draw(st.sets(st.sampled_from(["request_id", "lane", "engine", "expires"])))
    }
    columns = data.draw(values, label="columns")
    calls = [
        lambda: client.append(table, GOOD, partition_by=columns, **options),
        lambda: client.merge("names", GOOD, keys=columns, **options),
        lambda: client.overwrite("names", GOOD, where=columns, **options),
        lambda: client.delete("names", where=columns, **options),
        lambda: client.read(table, columns=columns, where=columns),
    ]
    call = data.draw(st.sampled_from(calls))

    try:
        future = call()
    except DeltaqError as exc:
        check_typed(exc)
    else:
        told(future)


@hostile(FRAMES)  # type: ignore[untyped-decorator]
@given(frame=frames())
def test_frames_of_any_schema_are_committed_or_refused_with_a_typed_error(
    attacker: Attacker, client: Client, frame: pa.Table
) -> None:
    try:
        future = client.append(f"frames{next(attacker.numbers)}", frame)
    except DeltaqError as exc:
        check_typed(exc)
    else:
        told(future)


WHOLE = msgspec.to_builtins(make_append("wires")) | {"request_id": "known", "lane": "live"}


@hostile(WIRES)  # type: ignore[untyped-decorator]
@given(wire=wires(WHOLE))
def test_requests_that_are_none_are_refused_and_told_where_the_caller_can_be_made_out(
    attacker: Attacker, wire: bytes
) -> None:
    attacker.redis.delete(keys.request("wires", "known"))
    attacker.enqueue("wires", "known", wire)

    attacker.wait_until_empty("wires")

    outcome = attacker.outcome("wires", "known")
    if outcome is not None:
        assert outcome.state is State.FAILED
        assert outcome.error is not None
        assert outcome.error.code
    elif _says_whose(wire):
        pytest.fail("the caller could be made out and was not told")


def _says_whose(wire: bytes) -> bool:
    try:
        body = msgspec.json.decode(wire)
    except msgspec.DecodeError:
        return False
    if not isinstance(body, dict) or not isinstance(body.get("op"), str):
        return False
    return bool(body.get("request_id") == "known" and body.get("client_id") == WHOLE["client_id"])


@hostile(MESSAGES)  # type: ignore[untyped-decorator]
@given(data=st.data())
def test_strange_celery_messages_end_no_worker(attacker: Attacker, data: st.DataObject) -> None:
    task = data.draw(st.sampled_from([keys.COMMIT_TASK, keys.READ_TASK, "os.system"]))
    queue = data.draw(st.sampled_from([keys.READ_QUEUE, keys.lane_queue(Lane.LIVE)]))
    if data.draw(st.integers(0, 4)):
        attacker.send(task, data.draw(st.lists(values, max_size=2) | values), queue)
    else:
        attacker.push(queue, data.draw(st.binary(max_size=40) | values))


def truncate(content: bytes, at: int) -> bytes:
    return content[:at]


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def blank(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(len(content) - at)


@hostile(FILES)  # type: ignore[untyped-decorator]
@given(
    damage=st.sampled_from([truncate, flip, flip, blank]),
    at=st.floats(0, 1, exclude_max=True),
    rows=st.integers(1, 200),
)
def test_a_damaged_staged_file_fails_its_request_and_never_becomes_other_rows(
    attacker: Attacker, damage: Callable[[bytes, int], bytes], at: float, rows: int
) -> None:
    whole = pa.table({"n": [7] * rows, "text": ["seven"] * rows})
    draft = make_request(Overwrite, "damaged")
    request = stage(attacker.staging, draft, to_rows(whole)).request
    file = attacker.staging.request_path(request.table, request.request_id)
    content = file.read_bytes()
    file.write_bytes(damage(content, int(len(content) * at)))

    outcome = attacker.submit(request)

    if outcome.state is State.COMMITTED:  # not everything in a file is read
        assert DeltaTable(str(attacker.lake / "damaged")).to_pyarrow_table().equals(whole)
    else:
        check_typed(outcome.as_error())


def check_refused(outcome: Outcome) -> None:
    assert outcome.state is State.FAILED
    assert outcome.error is not None
    assert outcome.error.code == StagedDataMissing.code, outcome.error


def test_a_request_without_its_staged_file_fails(attacker: Attacker) -> None:
    check_refused(attacker.submit(make_append("damaged")))


@pytest.mark.parametrize("field", ["request_id", "table"])
@pytest.mark.parametrize("claimed", ["other", *TRICKS[:6]])
def test_a_staged_file_of_another_request_is_not_committed(
    attacker: Attacker, field: str, claimed: str
) -> None:
    request = make_append("footers")
    footer = msgspec.to_builtins(request) | {field: claimed}
    path = attacker.staging.request_path(request.table, request.request_id)
    with attacker.staging.create(path) as file, pq.ParquetWriter(file, GOOD.schema) as writer:
        writer.write_table(GOOD)
        writer.add_key_value_metadata({FOOTER_KEY.decode(): msgspec.json.encode(footer).decode()})

    check_refused(attacker.submit(request))
