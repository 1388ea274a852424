"""A simulation of many workers and tables on one machine.

Real: a redis-server, durable as deployed, and all that a worker asks of it: wake-ups, leases, the
committer with its claims and acknowledgements, sweeps, signs of life. Played: the engines, which
wait in place of committing, and the processes, as many workers share one. Nothing is staged, no
table is written, and Redis knows the tables beforehand. Time is not scaled: a commit takes as long as ``commit_seconds`` says, and leases,
sweeps and signs of life have the times that they have in life.
"""
