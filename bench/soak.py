"""The long run: does memory stay flat, and does every activity arrive?"""

import threading
import time
from dataclasses import dataclass, replace

from hosts import Failure, Hosts
from measure import Load, press, rss_kb, wait_for_activities
from scenarios import SCENARIOS

EARLY, LATE = 200_000, 2_000_000
# Enough connections and little enough pause for 20,000 requests a second.
LOAD = Load(seconds=10, think_ms=10, connections=240)
OUTAGE_SECONDS = 30
OUTAGE_LOAD = Load(seconds=10, think_ms=32, connections=64)


@dataclass(frozen=True)
class Lost:
    """Activities over a time: of so many requests, so many never arrived."""

    requests: int
    missing: int
    rate: float


@dataclass(frozen=True)
class Soak:
    rss_early_kb: int
    rss_late_kb: int
    steady: Lost
    # None where the module knows no spool.
    outage: Lost | None


def soak(hosts: Hosts, requests) -> Soak:
    """Two million requests with 5,000 cookies and activities, then an outage of the collector."""
    many = next(scenario for scenario in SCENARIOS if scenario.name == "many-quiet")
    scenario = replace(many, name="soak", title="", conf="", activities=1)
    print(f"soak: {LATE:,} requests", flush=True)
    before, began = hosts.activities(), time.monotonic()
    with hosts.start(scenario) as nginx:
        early = None
        while (count := nginx.requests()) < LATE:
            if early is None and count >= EARLY:
                early = rss_kb(nginx.worker)
            press(nginx, requests.of(scenario), LOAD)
        late = rss_kb(nginx.worker)
        rate = count / (time.monotonic() - began)
        steady = Lost(count, count - wait_for_activities(hosts, before, count), rate)
    return Soak(early or late, late, steady, outage(hosts, requests, scenario))


def outage(hosts: Hosts, requests, scenario) -> Lost | None:
    """The collector answers 503 for a while; the spool keeps what cannot be delivered."""
    scenario = replace(scenario, conf="px_activity_spool path={dir}/spool max_size=1g;")
    before = hosts.activities()
    try:
        nginx = hosts.start(scenario)
    except Failure as why:
        if 'unknown directive "px_activity_spool"' in str(why):
            return None
        raise
    with nginx:
        print(f"soak: collector down for {OUTAGE_SECONDS} s", flush=True)
        down = [{"endpoint": "activities", "behaviour": "status", "status": 503}]
        down.append({"endpoint": "activities", "behaviour": "normal"})
        began = time.monotonic()
        hosts.collector.order(**down[0])
        timer = threading.Timer(OUTAGE_SECONDS, lambda: hosts.collector.order(**down[1]))
        timer.start()
        while time.monotonic() - began < OUTAGE_SECONDS + 5:
            press(nginx, requests.of(scenario), OUTAGE_LOAD)
        timer.join()
        count = nginx.requests()
        rate = count / (time.monotonic() - began)
        # The spool is looked at now and then; what is in it may take its time.
        for _ in range(20):
            told = wait_for_activities(hosts, before, count)
            if told >= count:
                break
        return Lost(count, count - told, rate)
