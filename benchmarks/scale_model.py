"""How much a system carries, and what gives out first: values in, values out.

The constants come from :mod:`benchmarks.scale`, which measures them. What they are taken to mean is
told on ``docs/scale.md``.
"""

from __future__ import annotations

import msgspec

#: Requests a second that AWS promises for each prefix: writes, and reads.
S3_WRITES, S3_READS = 3500, 5500
#: Share of their core that Redis, and a worker, may use: beyond it whoever asks waits for others.
_REDIS_SHARE, _WORKER_SHARE = 0.7, 0.8
#: Requests in one commit; the setting ``group_max_requests``.
_MOST_IN_COMMIT = 500
#: Steps in which the highest rate is looked for.
_BISECTIONS = 50


class Sized(msgspec.Struct, frozen=True):
    """Something that was used by so many requests in so many commits."""

    requests: float
    commits: float
    used: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one piece of work took.

    Attributes:
        name: What was done.
        requests: How many were committed.
        commits: In how many commits.
        megabytes: That the frames had in memory.
        seconds: By the clock.
        client, worker, redis: Seconds of the processor that each used.
    """

    name: str
    requests: int
    commits: float
    megabytes: float
    seconds: float
    client: float
    worker: float
    redis: float

    def sized(self, used: float) -> Sized:
        """Say that its requests and commits used so much of something."""
        return Sized(self.requests, self.commits, used)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """The constants: milliseconds of the processor, unless their names tell otherwise.

    Attributes:
        client_request, client_megabyte: Of the program that submits.
        worker_request, worker_commit, worker_megabyte: Of the worker.
        worker_idle: Of a worker without work, a second.
        redis_request, redis_commit: Of Redis.
        redis_idle, redis_base: Of Redis for each worker without work, and by itself, a second.
        disk_megabyte: Milliseconds for which a disk is waited for.
        commit_seconds: From its beginning to its outcome, one small commit on a disk.
        busy_share: Part of the cores that was in use where they were what limited.
        waiting_bytes, outcome_bytes: Of Redis' memory, for each request that waits or is settled.
        s3_writes_request, s3_writes_commit: Calls of S3 that write or remove.
        s3_reads_request, s3_reads_commit: Calls of S3 that read or list.
        s3_idle: Calls of S3 by a worker without work, a second.
        s3_round_trips: Calls, one after the other, that a commit waits for.
    """

    client_request: float
    client_megabyte: float
    worker_request: float
    worker_commit: float
    worker_megabyte: float
    worker_idle: float
    redis_request: float
    redis_commit: float
    redis_idle: float
    redis_base: float
    disk_megabyte: float
    commit_seconds: float
    busy_share: float
    waiting_bytes: float
    outcome_bytes: float
    s3_writes_request: float
    s3_writes_commit: float
    s3_reads_request: float
    s3_reads_commit: float
    s3_idle: float
    s3_round_trips: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a system.

    Attributes:
        tables: Over which requests are spread evenly.
        megabytes: Of each request's frame, in memory.
        within: Seconds for which requests may wait: so that more share a commit, if need be.
        in_commit: Requests that share a commit, if that is known.
    """

    tables: int
    megabytes: float = 0.03
    within: float = 1.0
    in_commit: float | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do it with.

    Attributes:
        workers: Processes, each with a core of its own.
        concurrency: Commits that each makes at once.
        redis: Systems of Redis among which the tables are divided.
        redis_memory: Bytes that each may use.
        outcome_days: For how long outcomes are kept.
        call_seconds: Of one call of S3; None for a disk.
        prefixes: Into which S3 has divided the bucket by itself.
        shared_cores: All the cores there are, for clients, workers and Redis together; None where
            each has its own.
    """

    workers: int
    concurrency: int = 4
    redis: int = 1
    redis_memory: float = 8e9
    outcome_days: float = 7.0
    call_seconds: float | None = None
    prefixes: int = 1
    shared_cores: float | None = None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one thing is used: 1 is all of it.

    Attributes:
        of: What is used.
        share: Which part of it.
        add: What to do when it is the first to give out.
    """

    of: str
    share: float
    add: str


def in_commit(rate: float, load: Load) -> float:
    """Tell how many requests may share a commit at a rate: those that come while the first waits."""
    if load.in_commit is not None:
        return load.in_commit
    return min(_MOST_IN_COMMIT, max(1.0, rate / load.tables * load.within))


def commit_seconds(requests: float, load: Load, deployment: Deployment, costs: Costs) -> float:
    """Tell how long a commit of some requests takes."""
    each = (costs.worker_request + costs.worker_megabyte * load.megabytes) / 1000
    calls = (deployment.call_seconds or 0.0) * costs.s3_round_trips
    return costs.commit_seconds + calls + requests * each


def uses(rate: float, load: Load, deployment: Deployment, costs: Costs) -> list[Use]:
    """Tell how much of everything is used at a rate of requests a second, the most used first."""
    members = in_commit(rate, load)
    commits = rate / members
    seconds = commit_seconds(members, load, deployment, costs)
    worker = _worker_cores(rate, commits, load, costs)
    idle = deployment.workers * costs.worker_idle / 1000
    redis = redis_cores(rate, commits, deployment.workers, costs)
    kept = rate * deployment.outcome_days * 86400 * costs.outcome_bytes
    longest = commit_seconds(_MOST_IN_COMMIT, load, deployment, costs)
    found = [
        _use("one table", rate / load.tables * longest / _MOST_IN_COMMIT, "divide the table"),
        _use("cores of workers", (worker + idle) / (deployment.workers * _WORKER_SHARE), "workers"),
        _use(
            "commits at once",
            commits * seconds / (deployment.workers * deployment.concurrency),
            "`concurrency`, or workers",
        ),
        _use("core of Redis", redis / (_REDIS_SHARE * deployment.redis), "another system"),
        _use(
            "memory of Redis",
            kept / (deployment.redis_memory * deployment.redis),
            "a lower `outcome_ttl`, or memory",
        ),
    ]
    if deployment.call_seconds is None:
        disk = rate * load.megabytes * costs.disk_megabyte / 1000
        found.append(_use("the disk", disk, "a faster one, or S3"))
    else:
        found += _s3_uses(rate, commits, deployment, costs)
    if deployment.shared_cores is not None:
        client = rate * (costs.client_request + costs.client_megabyte * load.megabytes) / 1000
        cores = deployment.shared_cores * costs.busy_share
        found.append(_use("cores of the machine", (client + worker + redis) / cores, "machines"))
    return sorted(found, key=lambda use: -use.share)


def most(load: Load, deployment: Deployment, costs: Costs) -> tuple[float, list[Use]]:
    """Find the highest rate at which nothing is used up, and what is used then."""
    low, high = 0.0, 1e7
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if uses(middle, load, deployment, costs)[0].share <= 1:
            low = middle
        else:
            high = middle
    return low, uses(low, load, deployment, costs)


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis uses when many workers ask it at once: cores without work, and at a rate.

    Each request has a commit of its own.
    """

    workers: int
    idle_cores: float
    rate: float
    cores: float


def in_a_crowd(costs: Costs, crowd: Crowd) -> Costs:
    """Take what Redis costs from where many ask at once: there it answers several in one go."""
    idle = _at_least_0(1000 * crowd.idle_cores - costs.redis_base) / crowd.workers
    both = 1000 * _at_least_0(crowd.cores - crowd.idle_cores) / crowd.rate
    part = costs.redis_request / (costs.redis_request + costs.redis_commit)
    return msgspec.structs.replace(
        costs,
        redis_idle=idle,
        redis_request=both * part,
        redis_commit=both * (1 - part),
    )


def redis_cores(rate: float, commits: float, workers: int, costs: Costs) -> float:
    """Tell how many cores Redis uses."""
    work = rate * costs.redis_request + commits * costs.redis_commit
    return (work + workers * costs.redis_idle + costs.redis_base) / 1000


def request_milliseconds(load: Load, members: float, costs: Costs) -> float:
    """Tell what a request costs clients, worker and Redis together, when so many share a commit."""
    each = costs.client_request + costs.worker_request + costs.redis_request
    bytes_ = (costs.client_megabyte + costs.worker_megabyte) * load.megabytes
    return each + bytes_ + (costs.worker_commit + costs.redis_commit) / members


def s3_calls(rate: float, commits: float, workers: int, costs: Costs) -> tuple[float, float]:
    """Tell how many calls of S3 a second write, and how many read."""
    writes = rate * costs.s3_writes_request + commits * costs.s3_writes_commit
    reads = rate * costs.s3_reads_request + commits * costs.s3_reads_commit
    return writes, reads + workers * costs.s3_idle


def per_request_and_commit(one: Sized, other: Sized) -> tuple[float, float]:
    """Divide what two pieces of work used among their requests and their commits."""
    determinant = one.requests * other.commits - other.requests * one.commits
    by_request = (one.used * other.commits - other.used * one.commits) / determinant
    by_commit = (one.requests * other.used - other.requests * one.used) / determinant
    return _at_least_0(by_request), _at_least_0(by_commit)


def fit(
    points: dict[str, Point], idle: tuple[float, float, float], rest: dict[str, float]
) -> Costs:
    """Find the constants.

    Args:
        points: ``apart``: commits of few requests; ``together``: of many, where the cores are what
            limits; ``large``: of large frames.
        idle: Milliseconds of the processor a second of a worker without work, of its Redis, and of a
            Redis without a worker.
        rest: The other constants, by name.
    """
    apart, together, large = points["apart"], points["together"], points["large"]
    worker_idle, redis, redis_base = idle
    worker = per_request_and_commit(
        *(p.sized(1000 * p.worker - worker_idle * p.seconds) for p in (apart, together))
    )
    of_redis = per_request_and_commit(
        *(p.sized(1000 * p.redis - redis * p.seconds) for p in (apart, together))
    )
    client = 1000 * together.client / together.requests
    of_large = large.requests * worker[0] + large.commits * worker[1]
    used = large.client + large.worker + large.redis + large.commits * rest["commit_seconds"]
    return Costs(
        client_request=client,
        client_megabyte=_at_least_0(1000 * large.client - large.requests * client)
        / large.megabytes,
        worker_request=worker[0],
        worker_commit=worker[1],
        worker_megabyte=_at_least_0(1000 * large.worker - of_large) / large.megabytes,
        worker_idle=worker_idle,
        redis_request=of_redis[0],
        redis_commit=of_redis[1],
        redis_idle=_at_least_0(redis - redis_base),
        redis_base=redis_base,
        disk_megabyte=1000 * _at_least_0(large.seconds - used) / large.megabytes,
        **rest,
    )


def _worker_cores(rate: float, commits: float, load: Load, costs: Costs) -> float:
    each = costs.worker_request + costs.worker_megabyte * load.megabytes
    return (rate * each + commits * costs.worker_commit) / 1000


def _s3_uses(rate: float, commits: float, deployment: Deployment, costs: Costs) -> list[Use]:
    writes, reads = s3_calls(rate, commits, deployment.workers, costs)
    add = "time, in which S3 divides a busy prefix"
    return [
        _use("writes of S3", writes / (S3_WRITES * deployment.prefixes), add),
        _use("reads of S3", reads / (S3_READS * deployment.prefixes), add),
    ]


def _at_least_0(value: float) -> float:
    return max(0.0, value)


def _use(of: str, share: float, add: str) -> Use:
    return Use(of=of, share=share, add=add)
