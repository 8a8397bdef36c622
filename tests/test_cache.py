"""The cache on this machine's disk."""

from __future__ import annotations

import threading
from pathlib import Path

from pixeldetective.cache import Cache


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1 << 20)
    cache.put(b"key", b"value")
    assert cache.get(b"key") == b"value"
    assert cache.get(b"other") is None
    cache.close()
    again = Cache(tmp_path, 1 << 20)
    assert again.get(b"key") == b"value"
    again.clear()
    assert again.get(b"key") is None
    again.close()


def test_it_stays_below_its_size_and_keeps_what_is_used(tmp_path: Path) -> None:
    limit = 1 << 20
    cache = Cache(tmp_path, limit)
    cache.put(b"used", b"x" * 1000)
    for number in range(3000):
        cache.put(b"%d" % number, b"y" * 1000)
        assert cache.get(b"used") is not None
        assert cache.size() <= limit
    assert cache.get(b"2999") is not None
    assert cache.get(b"0") is None
    cache.close()


def test_threads_share_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1 << 22)

    def work(number: int) -> None:
        for n in range(200):
            cache.put(b"%d-%d" % (number, n), b"%d" % n)
            assert cache.get(b"%d-%d" % (number, n)) == b"%d" % n

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 800
    cache.close()
