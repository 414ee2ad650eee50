"""What is known of the records after a position, against a plain list of them."""

from __future__ import annotations

import random

from deploy.observability.lag.window import Window


def test_offsets_without_records_do_not_count_once_they_are_known() -> None:
    window = Window(10)
    assert (window.count(20), window.knows(20), window.first_ms()) == (10, False, None)
    window.add([12, 15], [1_000, 2_000], 20)
    assert (window.count(20), window.knows(20), window.first_ms()) == (2, True, 1_000)
    assert window.count(13) == 1


def test_position_that_moves_on_forgets_what_lies_before_it() -> None:
    window = Window(0)
    window.add([1, 4, 6], [1, 4, 6], 8)
    window.move(5)
    assert (window.count(8), window.known, window.first_ms()) == (1, 1, 6)
    window.move(8)
    assert (window.count(8), window.knows(8), window.first_ms()) == (0, True, None)


def test_position_outside_of_what_is_known_starts_anew() -> None:
    for elsewhere in (3, 12):
        window = Window(5)
        window.add([6], [6], 10)
        window.move(elsewhere)
        assert (window.count(elsewhere + 4), window.knows(elsewhere + 1)) == (4, False)


def test_random_reads_and_moves_equal_a_plain_count() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(200):
        records = sorted(dice.sample(range(200), dice.randrange(0, 150)))
        window = Window(0)
        for _ in range(20):
            if dice.random() < 0.5:
                begin = max(window.end - dice.randrange(0, 5), 0)
                end = min(window.end + dice.randrange(0, 40), 200)
                read = [o for o in records if begin <= o < end]
                window.add(read, [o * 10 for o in read], end)
            else:
                window.move(dice.randrange(window.begin, window.end + 1))
            stop = dice.randrange(window.begin, 201)
            exact = [o for o in records if window.begin <= o < min(stop, window.end)]
            assert window.count(stop) == len(exact) + max(stop - window.end, 0)
            first = [o * 10 for o in records if window.begin <= o < window.end]
            assert window.first_ms() == (first[0] if first else None)
