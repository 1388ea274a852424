"""``python -m benchmarks.onlookers REDIS_URL METRICS_URL``: asks as Flower and Prometheus do.

It takes the task events and throws them away, and reads the metrics every second, until its
standard input is closed.
"""

from __future__ import annotations

import sys
import threading
import urllib.request

import redis

#: Seconds between two questions; Prometheus asks every 15.
_SCRAPE_EVERY = 1.0


def main(redis_url: str, metrics_url: str) -> None:
    """Listen until nobody wants it any more."""
    ended = threading.Event()
    client = redis.Redis.from_url(redis_url)
    channel = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py tells no types of it
    channel.psubscribe("/0.celeryev/*")

    def listen() -> None:
        while not ended.is_set():
            channel.get_message(timeout=0.1)

    def scrape() -> None:
        while not ended.wait(_SCRAPE_EVERY):
            with urllib.request.urlopen(metrics_url, timeout=10) as page:
                page.read()

    threads = [threading.Thread(target=listen), threading.Thread(target=scrape)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
