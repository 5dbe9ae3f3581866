"""What a turn of the rate limit does, in each store: never more than N tokens out, in turn, and none lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from ozonetel_async import ConfigurationError
from ozonetel_async.sending.shared.store import account_key

from ..sending.conftest import MemoryStore
from .conftest import AT_ONCE, MINUTE, SERVERS, Join, Process, Server, shared


class Memory:
    """Stands where a server does, so that the store in memory that other tests use is held to the same."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def store(self) -> MemoryStore:
        return self._store


@pytest.fixture(params=["memory", *SERVERS])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Server | Memory]:
    if request.param == "memory":
        yield Memory()
    else:
        yield from shared(request.param, servers)


async def test_a_queue_that_nobody_knows_is_held_for_everybody(join: Join) -> None:
    one, other = join("one", hold=MINUTE), join("other", hold=MINUTE)
    first = await one.turn(1)
    assert (first.granted, first.hold, first.again) == ((), MINUTE, MINUTE)
    second = await other.turn(1)
    assert second.granted == ()
    assert second.epoch == first.epoch
    assert second.now + second.hold == first.now + first.hold


async def test_a_hold_ends(join: Join) -> None:
    one = join("one", hold=100_000)
    first = await one.turn()
    turn = await one.turn_until(lambda turn: turn.granted, 1)
    assert turn.now - first.now >= 100_000


async def test_more_processes_than_tokens_wait_for_a_hold(join: Join) -> None:
    for name in ("one", "two", "three"):
        turn = await join(name, requests=1, hold=MINUTE).turn(1)
        assert turn.granted == ()
        assert turn.again >= turn.hold > 0


async def test_whoever_vouches_for_silence_skips_the_hold(join: Join) -> None:
    turn = await join("one", hold=MINUTE, go=True).turn(2)
    assert (turn.granted, turn.hold, turn.free) == ((0, 1), 0, 3)


async def test_no_more_tokens_than_the_limit_are_out(join: Join) -> None:
    one, other = join("one"), join("other")
    assert (await one.turn(3)).granted == (0, 1, 2)
    assert (await other.turn(9)).granted == (0, 1)
    last = await one.turn(1)
    assert (last.granted, last.free, last.again) == ((), 0, MINUTE)


async def test_a_token_comes_back_when_its_time_is_over_and_not_before(join: Join) -> None:
    one, other = join("one"), join("other")
    await one.turn(5)
    concluded = await one.conclude(2, back=150_000)
    asleep = await other.turn(1)
    assert asleep.now + asleep.again <= concluded.now + 150_000 or asleep.granted
    turn = asleep if asleep.granted else await other.turn_until(lambda turn: turn.granted, 1)
    assert turn.now - concluded.now >= 150_000


async def test_an_unsent_request_gives_its_token_back_at_once(join: Join) -> None:
    one, other = join("one"), join("other")
    await one.turn(5)
    assert (await one.conclude(4)).free == 1
    assert (await other.turn(1)).granted == (0,)


async def test_a_turn_whose_answer_got_lost_is_repeated_without_a_second_token(join: Join) -> None:
    one = join("one", lease=300_000)
    await one.turn(2)
    await asyncio.sleep(0.1)
    again = await one.turn(3, first=0)
    assert (again.granted, again.free) == ((0, 1, 2), 2)
    # The lease begins anew, else the tokens would seem fresher than they are.
    assert (await one.turn_until(lambda turn: turn.free > 2)).now - again.now >= 300_000


async def test_tokens_of_a_process_that_is_never_heard_of_again_come_back_after_its_lease(join: Join) -> None:
    lost, other = join("lost", lease=300_000), join("other")
    granted_at = (await lost.turn(5)).now
    turn = await other.turn_until(lambda turn: turn.granted, 5)
    assert turn.granted == (0, 1, 2, 3, 4)
    assert turn.now - granted_at >= 300_000


async def test_tokens_that_the_store_does_not_know_are_added(join: Join) -> None:
    one = join("one")
    turn = await one.turn(concluded=((7, 100_000), (8, 100_000)))
    assert turn.free == 3
    assert (await one.turn_until(lambda turn: turn.free == 5)).now - turn.now >= 100_000


async def test_a_process_that_wants_more_goes_to_the_end_of_the_line(join: Join) -> None:
    one, two, three = (join(name, per=AT_ONCE) for name in ("one", "two", "three"))
    await one.turn(5)
    for process in (one, two, three):
        assert (await process.turn(4)).granted == ()
    # Three tokens, three processes: each gets one, whoever was first first.
    assert (await one.turn(4, first=5, concluded=((0, 0), (1, 0), (2, 0)))).granted == (5,)
    assert (await two.turn(4, first=0)).granted == (0,)
    assert (await three.turn(4, first=0)).granted == (0,)
    assert (await one.turn(3, first=6)).again > 0


async def test_each_gets_its_share_of_what_is_free(join: Join) -> None:
    one, *others = (join(name, requests=100, per=AT_ONCE) for name in ("one", "two", "three", "four"))
    await one.turn(100)
    for process in (one, *others):
        await process.turn(50)
    back = tuple((number, 0) for number in range(100))
    turns = [await one.turn(50, first=100, concluded=back)]
    turns += [await process.turn(50, first=0) for process in others]
    assert [len(turn.granted) for turn in turns] == [25, 19, 14, 11]


async def test_a_higher_priority_goes_first_in_every_process(join: Join) -> None:
    low, high, other = (join(name, per=AT_ONCE) for name in ("low", "high", "other"))
    await other.turn(5)
    await low.turn(5)
    await high.turn(2, priority=3)
    assert (await other.conclude(0, 1, 2)).free == 3
    # It may want all that is free, so the others get nothing until it has come.
    assert (await low.turn(5, first=0)).granted == ()
    assert (await high.turn(2, first=0, priority=3)).granted == (0, 1)
    assert (await low.turn(5, first=0)).granted == (0,)


@pytest.mark.parametrize("priority", [2**70, -(2**70)])
async def test_any_whole_number_is_a_priority(join: Join, priority: int) -> None:
    one, other = join("one", per=AT_ONCE), join("other", per=AT_ONCE)
    await other.turn(5)
    await other.turn(1)
    await one.turn(1, priority=priority)
    turn = await other.turn(1, first=5, concluded=((0, 0),))
    assert turn.granted == (() if priority > 0 else (5,))


async def test_a_place_is_kept_when_the_priority_changes(join: Join) -> None:
    one, two, other = (join(name, per=AT_ONCE) for name in ("one", "two", "other"))
    await other.turn(5)
    await one.turn(1)
    await two.turn(1)
    await two.turn(1, first=0, priority=1)
    await two.turn(1, first=0)
    await other.conclude(0)
    assert (await two.turn(1, first=0)).granted == ()
    assert (await one.turn(1, first=0)).granted == (0,)


async def test_whoever_sleeps_until_a_later_token_does_not_hold_up_the_others(join: Join) -> None:
    one, two, three = join("one"), join("two"), join("three")
    await one.turn(5)
    assert (await two.turn(1)).again == MINUTE
    # A token that is back early, while the first in line sleeps still.
    await one.conclude(0)
    assert (await three.turn(1)).granted == (0,)


async def test_a_ticket_that_nobody_comes_for_lapses(join: Join) -> None:
    gone, other = (join(name, per=AT_ONCE, slack=200_000) for name in ("gone", "other"))
    await other.turn(5)
    ticket = await gone.turn(1, priority=1)
    await other.conclude(0)
    turn = await other.turn_until(lambda turn: turn.granted, 1)
    assert turn.now - ticket.now >= 200_000


async def test_leaving_the_line_makes_room(join: Join) -> None:
    one, other = join("one", per=AT_ONCE), join("other", per=AT_ONCE)
    await other.turn(5)
    await one.turn(1, priority=1)
    await one.turn(0)
    assert (await other.turn(1, concluded=((0, 0),))).granted == (5,)


async def test_a_pause_holds_for_all(join: Join) -> None:
    one, other = join("one"), join("other")
    paused = await one.turn(pause=MINUTE)
    turn = await other.turn(1)
    assert turn.granted == ()
    assert turn.now + turn.pause == turn.now + turn.again == paused.now + MINUTE
    # A shorter one does not end it early.
    shorter = await one.turn(pause=1)
    assert shorter.now + shorter.pause == paused.now + MINUTE


async def test_a_pause_ends(join: Join) -> None:
    one, other = join("one"), join("other")
    paused = await one.turn(pause=100_000)
    turn = await other.turn_until(lambda turn: turn.granted, 1)
    assert turn.now - paused.now >= 100_000


async def test_an_ask_that_comes_too_late_grants_nothing_and_keeps_its_place(join: Join) -> None:
    one, other = join("one", per=AT_ONCE), join("other", per=AT_ONCE)
    now = (await other.turn(4)).now
    late = await one.turn(1, not_after=now, concluded=((9, MINUTE),))
    assert (late.granted, late.again, late.free) == ((), 0, 0)
    await one.turn(1, first=0)
    await one.turn(1, first=0, not_after=now)
    await other.turn(1)
    await other.conclude(0)
    assert (await other.turn(1, first=4)).granted == ()
    assert (await one.turn(1, first=0, not_after=late.now + 10 * MINUTE)).granted == (0,)


async def test_a_process_that_saw_the_clock_jump_makes_everybody_wait(join: Join) -> None:
    one, other = join("one", hold=MINUTE, go=True), join("other", hold=MINUTE, go=True)
    before = await one.turn()
    jumped = await one.turn(1, epoch=before.epoch, jumped=True)
    assert jumped.epoch > before.epoch
    assert (jumped.granted, jumped.hold) == ((), MINUTE)
    # The second one to see the same jump begins nothing anew.
    second = await other.turn(1, epoch=before.epoch, jumped=True)
    assert second.epoch == jumped.epoch
    assert second.hold < MINUTE


async def test_a_store_that_is_behind_what_a_process_has_seen_has_lost_state(join: Join) -> None:
    one = join("one", hold=MINUTE, go=True)
    before = await one.turn()
    assert (await one.turn(1, serial=before.serial)).granted == (0,)
    after = await one.turn(1, serial=before.serial + 1_000)
    assert after.epoch > before.epoch
    assert after.serial > before.serial + 1_000
    assert (after.granted, after.hold) == ((), MINUTE)


async def test_another_limit_is_refused_while_the_first_one_is_in_use(join: Join) -> None:
    one, other = join("one"), join("other", requests=10)
    await one.turn(1)
    with pytest.raises(ConfigurationError, match=r"10 requests in 60 s.* 5 in 60 s.*same Limits") as caught:
        await other.turn(1)
    assert caught.value.endpoint == "bulk"
    await one.conclude(0)
    assert len((await other.turn(6)).granted) == 6
    with pytest.raises(ConfigurationError, match="5 requests"):
        await one.turn(1)


async def test_what_became_of_requests_is_told_even_under_another_limit(join: Join) -> None:
    one, other = join("one"), join("other", per=2 * MINUTE)
    await one.turn(1)
    with pytest.raises(ConfigurationError):
        await other.turn(concluded=((0, MINUTE), (1, MINUTE)))
    assert (await one.turn()).free == 2


async def test_queues_do_not_see_each_other(join: Join) -> None:
    one, other = join("one"), join("other")
    await one.turn(5)
    assert (await other.turn(5, key=f"{one.ask.key}2")).granted == (0, 1, 2, 3, 4)


async def test_a_crowd_never_holds_more_than_the_limit(join: Join) -> None:
    """Random turns of eight processes at once; the store's own moments tell how many tokens were out at a time."""
    rng = random.Random(5)
    spans: list[tuple[int, int]] = []

    async def live(process: Process) -> None:
        out: dict[int, tuple[int, int]] = {}  # token -> moment of its grant, moment its lease ends
        for _ in range(40):
            ended = {number: rng.choice((0, 1_000, 20_000)) for number in out if rng.random() < 0.5}
            turn = await process.turn(rng.randrange(4), concluded=tuple(ended.items()))
            for number, back in ended.items():
                granted, lease_end = out.pop(number)
                spans.append((granted, turn.now + back if turn.now < lease_end else lease_end))
            out |= dict.fromkeys(turn.granted, (turn.now, turn.now + process.ask.lease))
            await asyncio.sleep(rng.random() * 0.01)
        spans.extend(out.values())

    await asyncio.gather(*(live(join(str(number), lease=200_000)) for number in range(8)))
    assert len(spans) > 20
    for moment, _ in spans:
        assert sum(begin <= moment < end for begin, end in spans) <= 5


def test_the_name_of_an_account_is_a_hash_of_user_and_host() -> None:
    name = account_key("acme", "https://API.example.com/x")
    assert name == account_key("acme", "https://api.example.com")
    assert name != account_key("acme2", "https://api.example.com")
    assert name != account_key("acme", "https://api.example.org")
    assert len(name) == 24
    assert "acme" not in name
