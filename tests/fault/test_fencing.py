"""Without a lease: two processes commit to one table in the same instant, and nothing is lost.

Each round stops both right before their commits, when each has seen the same version and found
nothing in its way, and lets them go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from deltaq.tasks.errors import CommitConflict, DeltaqError
from deltaq.tasks.request import EngineName, Lane
from deltaq.tasks.staging import StagingArea
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.ledger import app_id
from tests.support.log import actions, committed_requests, ledgers
from tests.support.racers import Attempt, Racer, racers
from tests.support.requests import make_append, stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Together 200 for each pair of engines; those of the second kind take twice as long.
ROUNDS_SAME, ROUNDS_OWN = 150, 50
PAIRS = [("native", "native"), ("spark", "spark"), ("native", "spark")]
#: Seconds by which the first contender is late, in turn; from the gate to its commit Spark
#: takes some milliseconds more than delta-rs.
DELAYS = {
    ("native", "native"): [0.0, 0.0005, 0.001],
    ("spark", "spark"): [0.0, 0.002, 0.005],
    ("native", "spark"): [n * 0.003 for n in range(12)],
}


@dataclass(kw_only=True)
class Race:
    """One table, two contenders, and what they said."""

    root: Path
    table: str
    contenders: tuple[Racer, Racer]
    engines: tuple[EngineName, EngineName]
    #: What a reported version must hold: (ledger, sequence, request id) and key of its row.
    reported: dict[int, tuple[tuple[str, int, str], int]] = field(default_factory=dict)
    _keys: int = 0

    @property
    def path(self) -> Path:
        return self.root / self.table

    def create(self) -> None:
        """Make the table, by the second engine: Spark's tables have checkpoints less often."""
        answer = self.commit(1, self.group("created", 0))
        assert answer == 0

    def group(self, epoch: str, sequence: int) -> CommitGroup:
        """Stage a row with a key of its own."""
        self._keys += 1
        rows = pa.table({"k": [self._keys]})
        request = stage(StagingArea(self.root / ".deltaq"), make_append(self.table), rows)
        members = (Waiting(sequence=sequence, request=request),)
        ledger = app_id(epoch, Lane.LIVE)
        return CommitGroup(table=self.table, lane=Lane.LIVE, app_id=ledger, members=members)

    def commit(self, place: int, group: CommitGroup) -> int | DeltaqError:
        """Have one contender commit, unhindered."""
        self._begin(place, group, held=False)
        return self._end(place, group)

    def together(self, groups: list[CommitGroup], delay: float) -> list[int | DeltaqError]:
        """Have both commit at once."""
        for place, group in enumerate(groups):
            self._begin(place, group, held=True)
        for contender in self.contenders:
            contender.wait_until_held()
        for contender, late in zip(self.contenders, (delay, 0.0), strict=True):
            contender.let_go(late)
        return [self._end(place, group) for place, group in enumerate(groups)]

    def _begin(self, place: int, group: CommitGroup, *, held: bool) -> None:
        attempt = Attempt(engine=self.engines[place], group=group, held=held)
        self.contenders[place].begin(attempt)

    def _end(self, place: int, group: CommitGroup) -> int | DeltaqError:
        answer = self.contenders[place].answer()
        if isinstance(answer, int):
            assert answer not in self.reported, f"version {answer} was reported twice"
            told = (group.app_id, group.sequence, group.first.request_id)
            self.reported[answer] = (told, key_of(self.root, group))
        return answer


def key_of(root: Path, group: CommitGroup) -> int:
    path = StagingArea(root / ".deltaq").request_path(group.table, group.first.request_id)
    key: int = pq.read_table(path)["k"][0].as_py()
    return key


def check_log(race: Race) -> None:
    """Hold the log to what was reported: each success in its version, with its own file."""
    versions = sorted(int(f.stem) for f in (race.path / "_delta_log").glob("*.json"))
    told = [race.reported[version] for version in sorted(race.reported)]
    added = {
        version: pq.read_table(race.path / unquote(action["add"]["path"]))["k"].to_pylist()
        for version, action in actions(race.path)
        if "add" in action
    }

    assert versions == sorted(race.reported) == list(range(len(versions)))
    assert committed_requests(race.path) == [request for request, _ in told]
    assert [(a, s) for _, a, s in ledgers(race.path)] == [(a, s) for (a, s, _), _ in told]
    assert len({(a, s) for (a, s, _), _ in told}) == len(told)
    assert added == {version: [key] for version, (_, key) in race.reported.items()}
    rows = DeltaTable(str(race.path)).to_pyarrow_table()["k"].to_pylist()
    assert sorted(rows) == sorted(key for _, key in told)
    assert [f.name for f in (race.path / "_delta_log").glob("*.tmp")] == []


@pytest.fixture(scope="module")
def contenders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Racer, Racer]]:
    """Two processes for all races, and the folder of their lake."""
    root = tmp_path_factory.mktemp("lake")
    with racers(root) as (first, second):
        yield root, first, second


@pytest.fixture(params=PAIRS, ids="-".join)
def race(request: pytest.FixtureRequest, contenders: tuple[Path, Racer, Racer]) -> Race:
    """A new table for a pair of engines."""
    root, *both = contenders
    name = request.node.name.translate(str.maketrans("[]", "__")).rstrip("_")
    made = Race(root=root, table=name, contenders=(both[0], both[1]), engines=request.param)
    made.create()
    return made


def test_of_two_processes_that_commit_the_same_sequence_one_wins_and_one_is_refused(
    race: Race,
) -> None:
    delays = DELAYS[race.engines]

    for sequence in range(ROUNDS_SAME):
        groups = [race.group("shared", sequence) for _ in range(2)]
        answers = race.together(groups, delays[sequence % len(delays)])
        won = [answer for answer in answers if isinstance(answer, int)]
        refused = [answer for answer in answers if isinstance(answer, CommitConflict)]
        assert (len(won), len(refused)) == (1, 1), (sequence, answers)

    check_log(race)


def test_two_processes_with_ledgers_of_their_own_both_get_everything_in(race: Race) -> None:
    delays = DELAYS[race.engines]

    for sequence in range(ROUNDS_OWN):
        groups = [race.group(epoch, sequence) for epoch in ("one", "other")]
        answers = race.together(groups, delays[sequence % len(delays)])
        for place, answer in enumerate(answers):
            if not isinstance(answer, int):
                assert isinstance(answer, CommitConflict), answer
                assert isinstance(race.commit(place, groups[place]), int)

    assert len(race.reported) == 1 + 2 * ROUNDS_OWN
    check_log(race)
