"""Calls that begin at once begin one after the other, and none is forgotten."""

from __future__ import annotations

import asyncio

from deltaq.client.pace import Pace


async def _call(pace: Pace, number: int, begun: list[int], open_: asyncio.Event) -> None:
    if turn := pace.begin():
        await turn
    begun.append(number)
    with pace.job():
        await open_.wait()


async def _settle() -> None:
    for _ in range(200):  # turns of the loop, enough for all that can go on
        await asyncio.sleep(0)


def test_calls_wait_while_the_threads_are_busy_and_begin_in_order() -> None:
    async def main() -> tuple[int, list[int]]:
        pace, begun, open_ = Pace(), list[int](), asyncio.Event()
        calls = [asyncio.create_task(_call(pace, n, begun, open_)) for n in range(500)]
        await _settle()
        early = len(begun)
        open_.set()
        await asyncio.wait_for(asyncio.gather(*calls), 30)
        return early, begun

    early, begun = asyncio.run(main())
    assert 32 <= early < 64
    assert begun == list(range(500))


def test_a_cancelled_call_keeps_no_other_from_beginning() -> None:
    async def main() -> list[int]:
        pace, begun, open_ = Pace(), list[int](), asyncio.Event()
        calls = [asyncio.create_task(_call(pace, n, begun, open_)) for n in range(200)]
        await _settle()
        for call in calls[:150]:
            call.cancel()
        await _settle()
        open_.set()
        await asyncio.wait_for(asyncio.gather(*calls[150:]), 30)
        return begun

    assert asyncio.run(main())[-50:] == list(range(150, 200))
