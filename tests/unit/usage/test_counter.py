"""Every line of the access log counts once, whatever happens to the log, to who reads it, and to the disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from modelport.errors import RepositoryError
from modelport.gateway import access_log
from modelport.usage import store as stores
from modelport.usage.counter import Counter
from modelport.usage.store import Store


def test_a_line_counts_once_however_often_it_is_read(logged, line):
    logged.write(line(), line(tenant="other"))
    for _ in range(3):
        logged.count()
        assert logged.answered() == {"acme": 1, "other": 1}
    logged.write(line())
    logged.count()
    assert logged.answered() == {"acme": 2, "other": 1}


def test_without_a_log_there_is_nothing_to_count(logged):
    logged.count()
    assert logged.answered() == {}


def test_a_line_counts_when_it_is_whole(logged, line):
    text = line()
    logged.write(line(), text[:40])
    logged.count()
    assert logged.answered() == {"acme": 1}
    logged.write(text[40:])
    logged.count()
    assert logged.answered() == {"acme": 2}


def test_a_line_that_a_killed_envoy_did_not_end_costs_only_itself(logged, line):
    """The next one begins in the middle of its line."""
    logged.write(line(), line()[:40], line(tenant="next"), b"no JSON\n")
    logged.count()
    assert logged.answered() == {"acme": 1, "next": 1}
    with Store(logged.root) as store:
        assert store.damaged() == 1


def test_a_log_that_is_put_aside_is_read_to_its_end(logged, line):
    """Also what came between the last look and the change, and where there is no new log yet."""
    logged.write(line())
    logged.count()
    logged.write(line())
    logged.put_aside()
    logged.count()
    logged.count()
    assert logged.answered() == {"acme": 2}
    logged.write(line(), line())
    logged.count()
    assert logged.answered() == {"acme": 4}


def test_a_log_is_the_same_one_after_it_was_copied(logged, line):
    """A repository that is moved to another disk is not billed twice: there files have other numbers."""
    logged.write(line(), line())
    logged.count()
    content = logged.log.read_bytes()
    logged.log.unlink()
    logged.log.write_bytes(content)
    logged.count()
    assert logged.answered() == {"acme": 2}


def test_what_follows_counts_where_a_crash_of_the_machine_took_the_end_of_the_log(logged, line):
    first = line()
    logged.write(first, line(), line())
    logged.count()
    logged.log.write_bytes(first)
    logged.count()
    logged.write(line())
    logged.count()
    assert logged.answered() == {"acme": 4}


def test_the_log_put_aside_may_go_when_it_was_counted_and_envoy_has_a_new_one(logged, line):
    with Store(logged.root) as store:
        counter = Counter(logged.root, store)
        assert counter.may_put_aside()
        logged.write(line())
        logged.put_aside()
        assert not counter.may_put_aside()
        counter.take_in()
        assert not counter.may_put_aside(), "Envoy may still write into it"
        logged.write(line())
        assert not counter.may_put_aside()
        counter.take_in()
        assert counter.may_put_aside()
        logged.put_aside()
        assert not counter.may_put_aside(), "that is another one"


def test_many_who_count_at_the_same_time_count_each_line_once(logged, line, monkeypatch):
    monkeypatch.setattr(access_log, "READ_BYTES", 2000)
    logged.write(*(line() for _ in range(300)))
    threads = [threading.Thread(target=logged.count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logged.answered() == {"acme": 300}


COUNT = """
import sys
from pathlib import Path
from modelport.gateway import access_log
from modelport.usage.counter import Counter
from modelport.usage.store import Store
access_log.READ_BYTES = 1000
with Store(Path(sys.argv[1])) as store:
    print("counting", flush=True)
    while True:
        Counter(Path(sys.argv[1]), store).take_in()
"""


def test_who_counts_is_killed_again_and_again_and_each_line_counts_once(logged, line):
    """With SIGKILL at any moment, while the log grows and is put aside; the moments differ from run to run."""
    total = 0
    for number in range(5):
        process = subprocess.Popen([sys.executable, "-c", COUNT, str(logged.root)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        logged.write(*(line() for _ in range(400)))
        total += 400
        if number == 2:
            logged.put_aside()
        time.sleep(0.02 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    logged.count()
    assert logged.answered() == {"acme": total}


def test_counts_that_cannot_be_opened_are_told_with_their_path(logged):
    stores.path(logged.root).parent.mkdir(parents=True)
    stores.path(logged.root).write_text(
        "no database, and longer than a header of one has to be, so that it is read" * 3
    )
    with pytest.raises(RepositoryError, match=r"usage\.sqlite"):
        logged.count()


def test_only_the_owner_may_read_the_counts(logged, line):
    logged.write(line())
    logged.count()
    assert stores.path(logged.root).parent.stat().st_mode & 0o077 == 0


def work(inferences, ns, *, runs=1):
    return {
        "name": "net",
        "version": "1",
        "inference_count": inferences,
        "batch_stats": [{"compute_infer": {"ns": ns // runs}}] * runs,
        "inference_stats": {"compute_infer": {"ns": 17 * ns}},
    }


def compute_ns(logged):
    return {name: sums.compute_ns for name, sums in logged.sums().items()}


def test_compute_time_is_shared_by_inferences_and_what_others_had_is_nobodys(logged, line):
    """The runs of 10 rows took 1,000 ns; 5 of the rows came through the gateway."""
    logged.statistics = [work(10, 1000, runs=2)]
    logged.write(line(inferences="3"), line(tenant="other"), line(tenant="other"), line(status=500, inferences="9"))
    logged.count()
    assert compute_ns(logged) == {"acme": 300, "other": 200}


def test_compute_time_goes_by_what_was_done_since_it_was_looked_at_before(logged, line):
    for statistics in ([work(10, 1000)], [work(12, 2000)], [], [work(2, 14)]):  # the last one: loaded anew
        logged.statistics = statistics
        logged.write(line(tenant=f"at {len(logged.answered())}"))
        logged.count()
    assert compute_ns(logged) == {"at 0": 100, "at 1": 500, "at 2": 500, "at 3": 7}


def test_a_version_that_was_loaded_anew_and_did_more_than_before_is_not_taken_for_dear(logged, line):
    """Its first runs are slow: as the difference of two lives they would make a single row out of a second."""
    logged.statistics = [work(1000, 1000)]
    logged.write(line())
    logged.count()
    logged.statistics = [work(1001, 10**9)]
    logged.write(*(line(tenant="later", inferences="100") for _ in range(10)))
    logged.count()
    assert compute_ns(logged)["later"] == round(1000 * 10**9 / 1001)


def test_without_runs_the_requests_tell(logged, line):
    logged.statistics = [{**work(10, 1000), "batch_stats": []}]
    logged.write(line())
    logged.count()
    assert compute_ns(logged) == {"acme": 1700}


class Envoy:
    """Writes as Envoy does: into the file that it has, renamed or not, until it is asked to open a new one."""

    def __init__(self, log):
        self.log = log
        self.file = log.open("ab", buffering=0)
        self.rest = b""

    def write(self, lines, rng):
        """All but the end of the last line, which comes with the next ones."""
        text = self.rest + b"".join(lines)
        cut = len(text) - rng.choice((0, 0, rng.randrange(len(lines[-1]))))
        self.file.write(text[:cut])
        self.rest = text[cut:]

    def reopen(self):
        self.file.write(self.rest)
        self.rest = b""
        self.file.close()
        self.file = self.log.open("ab", buffering=0)


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_it_happens_each_line_counts_once(logged, line, seed, monkeypatch):
    """Lines come, the log is put aside and opened anew, one counts and ends, or goes on counting, or two do."""
    rng, total = random.Random(seed), 0
    monkeypatch.setattr(access_log, "READ_BYTES", rng.choice((600, 5000, 1 << 20)))
    envoy, asked = Envoy(logged.log), False
    with Store(logged.root) as store, Store(logged.root) as other:
        counters = [Counter(logged.root, store), Counter(logged.root, other)]
        for _ in range(60):
            what = rng.choice(("lines", "lines", "look", "look", "start", "aside", "reopen"))
            if what == "lines":
                lines = [line() for _ in range(rng.randint(1, 9))]
                total += len(lines)
                envoy.write(lines, rng)
            elif what == "look":
                rng.choice(counters).take_in()
            elif what == "start":
                counters[rng.randrange(2)] = Counter(logged.root, rng.choice((store, other)))
            elif what == "aside" and not asked and counters[0].may_put_aside():
                logged.put_aside()
                asked = True
            elif asked:
                envoy.reopen()
                asked = False
        envoy.reopen()
        counters[0].take_in()
    assert logged.answered() == {"acme": total}
