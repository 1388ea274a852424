"""Every name that both sides must spell alike: Redis keys, queues, Celery tasks.

The keys of one table share the hash tag ``{table}``::

    dq:{t}:inbox:<lane>  stream; entry ``<sequence>-0`` holds one request as JSON, and when it
                         expires by the clock of Redis if it does
    dq:{t}:seq           hash; epoch, fence, run id of the server whose memory was vouched for,
                         holder of a lease that was not given back,
                         per lane: last sequence, claimed sequence, bytes; how far a request came
                         that is done in slices
    dq:{t}:wake          hash; by lane: when a wake-up was sent (ms) that no worker has taken, 0
                         while a worker has the lease; none while the lane sleeps
    dq:{t}:lease         hash with a TTL; token, fence and name of the holder
    dq:{t}:req:<id>      hash; state, sequence, lane, digest, outcome; expires once settled
    dq:{t}:prepare:<id>:<n>
                         string with a TTL; which worker prepares part n of a backfill
    dq:{t}:tries:<id>    hash with a TTL; by part of a backfill: how often it was begun
    dq:run               string; run id of the server for which all staged files were looked at
    dq:cancelled         hash; by table and operation, with a space between: requests cancelled that
                         no worker has counted yet
    dq:tables            set of the tables that have, or lately had, requests waiting
    dq:{t}:reads         sorted set of the reads of it that run, by when they are not believed
    dq:{t}:commits       pub/sub channel that names each version committed, for who follows a table
    dq:client:<id>       pub/sub channel on which a client hears outcomes
    dq:workers           sorted set of the workers by when they gave their last sign of life (ms)
    dq:worker:<name>     string with a TTL; what a worker tells of itself, as JSON
    dq:sweep             string with a TTL; whoever sets it sweeps this time
    dq:lookout           string with a TTL; name of the worker that tells Flower what waits
"""

from __future__ import annotations

from deltaq.tasks.request import Lane

TABLES = "dq:tables"
CANCELLED = "dq:cancelled"
RUN = "dq:run"
SWEEP = "dq:sweep"
LOOKOUT = "dq:lookout"
WORKERS = "dq:workers"

COMMIT_TASK = "deltaq.commit"
READ_TASK = "deltaq.read"
PREPARE_TASK = "deltaq.prepare"

#: Short name (``deltaq worker --queues``) to Celery queue.
QUEUES = {
    "commits": "deltaq.commits",
    "bulk": "deltaq.bulk",
    "reads": "deltaq.reads",
    "maintenance": "deltaq.maintenance",
}
READ_QUEUE = QUEUES["reads"]
_LANE_QUEUES = {
    Lane.LIVE: QUEUES["commits"],
    Lane.BULK: QUEUES["bulk"],
    Lane.MAINTENANCE: QUEUES["maintenance"],
}


def lane_queue(lane: Lane) -> str:
    """Name the Celery queue that carries the wake-ups of a lane."""
    return _LANE_QUEUES[lane]


def inbox(table: str, lane: Lane) -> str:
    """Name the stream of requests waiting in one lane of a table."""
    return f"dq:{{{table}}}:inbox:{lane}"


def seq(table: str) -> str:
    """Name the hash of a table's epoch, fence, sequences and byte counts."""
    return f"dq:{{{table}}}:seq"


def wake(table: str) -> str:
    """Name the hash of the lanes that are awake."""
    return f"dq:{{{table}}}:wake"


def lease(table: str) -> str:
    """Name the hash that says who may commit to a table."""
    return f"dq:{{{table}}}:lease"


def request(table: str, request_id: str) -> str:
    """Name the hash of what is known of one request."""
    return f"dq:{{{table}}}:req:{request_id}"


def prepare_claim(table: str, backfill_id: str, number: int) -> str:
    """Name the key of who prepares a part of a backfill."""
    return f"dq:{{{table}}}:prepare:{backfill_id}:{number}"


def prepare_tries(table: str, backfill_id: str) -> str:
    """Name the hash of how often parts of a backfill were begun."""
    return f"dq:{{{table}}}:tries:{backfill_id}"


def open_reads(table: str) -> str:
    """Name the sorted set of the reads of a table that run."""
    return f"dq:{{{table}}}:reads"


def commits_channel(table: str) -> str:
    """Name the channel on which a table's new versions are told."""
    return f"dq:{{{table}}}:commits"


def worker(name: str) -> str:
    """Name the string in which a worker tells of itself."""
    return f"dq:worker:{name}"


def client_channel(client_id: str) -> str:
    """Name the channel on which a client hears the outcomes of its requests."""
    return f"dq:client:{client_id}"
