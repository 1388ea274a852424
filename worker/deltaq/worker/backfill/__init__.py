"""Backfills: parts are prepared by all workers, their files adopted by one commit.

Decision 20 tells why it is as it is; ``deltaq.tasks.backfill`` says what is where.
"""
