"""The waiting line, with a counter for a server."""

from __future__ import annotations

import asyncio

import pytest

from proxy.config.rules import AdmissionRules
from proxy.traffic.line import Line, LineFull, Ticket

RULES = AdmissionRules(max_queue=100, max_wait_seconds=60)


class Room:
    """So many places, by model; who takes one, in order."""

    def __init__(self, line: Line[Place], **places: int) -> None:
        self.line = line
        self.places = places
        self.order: list[str] = []

    def take(self, model: str, who: str) -> Place | None:
        if not self.places[model]:
            return None
        self.places[model] -= 1
        self.order.append(who)
        return Place(self, model)

    def free(self, model: str, count: int = 1) -> None:
        self.places[model] += count
        self.line.wake()


class Place:
    def __init__(self, room: Room, model: str) -> None:
        self._room = room
        self._model = model

    def release(self) -> None:
        self._room.free(self._model)


class Hall:
    """A line, its room, and those who wait, by name."""

    def __init__(self, **places: int) -> None:
        self.now = 0.0
        self.line: Line[Place] = Line(lambda: self.now)
        self.room = Room(self.line, **places)
        self.waits: dict[str, asyncio.Future[Place]] = {}
        self._loop = asyncio.get_running_loop()

    async def enter(
        self,
        who: str,
        client: str = "c",
        *,
        model: str = "m",
        priority: int = 0,
        rules: AdmissionRules = RULES,
    ) -> asyncio.Future[Place]:
        ticket = Ticket(client, model, priority)
        wait = self.line.wait(ticket, lambda: self.room.take(model, who), rules)
        task = self.waits[who] = self._loop.create_task(wait)
        await asyncio.sleep(0)
        return task

    async def serve(self, count: int, model: str = "m") -> list[str]:
        for _ in range(count):
            self.room.free(model)
            await asyncio.sleep(0)
        return self.room.order

    async def close(self) -> None:
        for task in self.waits.values():
            task.cancel()
        await asyncio.gather(*self.waits.values(), return_exceptions=True)


async def test_one_client_is_served_in_its_order() -> None:
    hall = Hall(m=0)
    for who in "abc":
        _ = await hall.enter(who)
    assert await hall.serve(3) == ["a", "b", "c"]
    assert len(hall.line) == 0


async def test_clients_take_turns() -> None:
    hall = Hall(m=0)
    for who in ("a1", "a2", "a3", "b1", "c1", "b2"):
        _ = await hall.enter(who, client=who[0])
    assert await hall.serve(6) == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_a_higher_priority_goes_first() -> None:
    hall = Hall(m=0)
    _ = await hall.enter("batch", priority=-1)
    _ = await hall.enter("usual")
    _ = await hall.enter("urgent", priority=5)
    assert await hall.serve(3) == ["urgent", "usual", "batch"]


async def test_who_waits_for_another_model_stands_in_nobodys_way() -> None:
    hall = Hall(m=0, n=0)
    _ = await hall.enter("m1", model="m")
    _ = await hall.enter("n1", model="n")
    assert await hall.serve(1, "n") == ["n1"]
    assert len(hall.line) == 1
    await hall.close()


async def test_who_comes_while_others_wait_is_let_in_if_there_is_room_for_it() -> None:
    hall = Hall(m=0, n=1)
    _ = await hall.enter("m1", model="m")
    await (await hall.enter("n1", model="n"))
    assert hall.room.order == ["n1"]
    await hall.close()


async def test_several_places_at_once_are_all_taken() -> None:
    hall = Hall(m=0)
    for who in "abcd":
        _ = await hall.enter(who)
    hall.room.free("m", 3)
    await asyncio.sleep(0)
    assert hall.room.order == ["a", "b", "c"]
    await hall.close()


async def test_a_full_line_says_so_at_once() -> None:
    hall = Hall(m=0)
    rules = AdmissionRules(max_queue=1, max_wait_seconds=60)
    _ = await hall.enter("a", rules=rules)
    with pytest.raises(LineFull) as full:
        await (await hall.enter("b", rules=rules))
    assert full.value.retry_after == 1.0
    assert len(hall.line) == 1
    await hall.close()


async def test_a_line_of_no_length_lets_nobody_wait() -> None:
    hall = Hall(m=0)
    with pytest.raises(LineFull):
        await (await hall.enter("a", rules=AdmissionRules(max_queue=0, max_wait_seconds=60)))


async def test_who_waited_long_enough_leaves() -> None:
    hall = Hall(m=0)
    with pytest.raises(TimeoutError):
        await (await hall.enter("a", rules=AdmissionRules(max_queue=1, max_wait_seconds=0.001)))
    assert len(hall.line) == 0


async def test_who_is_cancelled_leaves() -> None:
    hall = Hall(m=0)
    a, _ = await hall.enter("a"), await hall.enter("b")
    a.cancel()
    await asyncio.gather(a, return_exceptions=True)
    assert await hall.serve(1) == ["b"]


async def test_a_place_granted_to_who_leaves_in_that_moment_goes_to_the_next() -> None:
    hall = Hall(m=0)
    a, b = await hall.enter("a"), await hall.enter("b")
    hall.room.free("m")
    a.cancel()
    await asyncio.gather(a, return_exceptions=True)
    await b
    assert hall.room.order == ["a", "b"]
    assert hall.room.places == {"m": 0}


async def test_the_wait_is_foretold_from_how_the_line_moves() -> None:
    hall = Hall(m=0)
    for who in map(str, range(40)):
        _ = await hall.enter(who)
    for _ in range(30):
        hall.now += 2.0
        await hall.serve(1)
    assert 15 < hall.line.retry_after() <= 20
    await hall.close()
