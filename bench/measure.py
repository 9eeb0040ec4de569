"""One measurement: load on one nginx, and what its worker spent on it."""

import contextlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hosts import OTHER_CORES, Failure, Hosts, Nginx, visit
from scenarios import BARE, BROWSER, request

WARM_UP_SECONDS = 1
CONNECTIONS = 64
# So long after the last of them no more activities are expected.
QUIET_SECONDS = 3.0


@dataclass(frozen=True)
class Sample:
    """What one run of one scenario gave."""

    # CPU time in microseconds for each request: the event loop, and all other threads.
    loop: float
    threads: float
    rate: float
    # Latency in microseconds, as the load generator saw it.
    p50: int
    p99: int
    rss_kb: int
    # What was not as the scenario says.
    complaints: tuple[str, ...]

    @property
    def cpu(self) -> float:
        return self.loop + self.threads


@dataclass(frozen=True)
class Load:
    """How wrk is to press: for so long, with this pause before each request of a connection."""

    seconds: float
    think_ms: float
    connections: int = CONNECTIONS


class Requests:
    """Requests of a scenario, as texts and as the file wrk reads."""

    def __init__(self, work: Path, scenario, cookies: list[str]):
        self.texts = [request(scenario.path, cookie) for cookie in cookies or [None]]
        self.file = work / f"requests-{scenario.name}.lua"
        texts = "".join(f"[==[\n{text}]==],\n" for text in self.texts)
        self.file.write_text(f"return {{\n{texts}}}\n")


class Mint:
    """The requests of the scenarios, with cookies minted once."""

    def __init__(self, tools: Path, work: Path):
        self.tools, self.work = tools, work
        self.cookies: dict[tuple, list[str]] = {}
        self.requests: dict[str, Requests] = {}

    def of(self, scenario) -> Requests:
        if scenario.name not in self.requests:
            cookies = self._cookies(*scenario.cookies) if scenario.cookies else []
            self.requests[scenario.name] = Requests(self.work, scenario, cookies)
        return self.requests[scenario.name]

    def _cookies(self, kind: str, count: int) -> list[str]:
        if (kind, count) not in self.cookies:
            command = [self.tools / "cookies", kind, str(count), BROWSER]
            minted = subprocess.run(command, check=True, capture_output=True, text=True)
            self.cookies[kind, count] = minted.stdout.split("\n")[:-1]
        return self.cookies[kind, count]


class Trial:
    """A fresh nginx for a scenario, warmed up, to be measured turn by turn."""

    def __init__(self, hosts: Hosts, scenario, requests: Requests, load: Load):
        self.hosts, self.scenario, self.requests, self.load = hosts, scenario, requests, load

    def __enter__(self):
        self.nginx = self.hosts.start(self.scenario)
        self.nginx.__enter__()
        try:
            told = self.hosts.activities()
            visit(self.nginx, self.requests.texts)
            press(self.nginx, self.requests, Load(WARM_UP_SECONDS, self.load.think_ms))
            # What the warm-up left to be told is not the next one's.
            expected = self.nginx.requests() * self.scenario.activities
            wait_for_activities(self.hosts, told, expected)
        except BaseException:
            self.nginx.__exit__()
            raise
        return self

    def __exit__(self, *why):
        return self.nginx.__exit__(*why)

    def measure(self, requests: Requests | None = None) -> Sample:
        """One turn under load; of these requests instead of the scenario's own, if any."""
        hosts, nginx, scenario = self.hosts, self.nginx, self.scenario
        calls, told = hosts.calls(), hosts.activities()
        before, served = cpu_ns(nginx.worker), nginx.requests()
        seen = press(nginx, requests or self.requests, self.load)
        count = nginx.requests() - served
        told = wait_for_activities(hosts, told, count * scenario.activities)
        calls = hosts.calls() - calls
        after = cpu_ns(nginx.worker)
        spent = {name: ns - before.get(name, 0) for name, ns in after.items()}
        loop = spent.pop("event loop")
        return Sample(
            loop=loop / count / 1000,
            threads=sum(spent.values()) / count / 1000,
            rate=seen["requests"] / seen["microseconds"] * 1e6,
            p50=seen["p50"],
            p99=seen["p99"],
            rss_kb=rss_kb(nginx.worker),
            complaints=tuple(complaints(scenario, seen, count, calls, told, nginx)),
        )


def measure_round(options, number: int, scenarios, hosts: Hosts, requests, results, load: Load):
    """Fresh processes for all scenarios, which then take turns, each just after its baseline: what
    the machine's mood changes, it changes for both."""
    with contextlib.ExitStack() as stack:
        trials = {
            each.name: stack.enter_context(Trial(hosts, each, requests.of(each), load))
            for each in scenarios
        }
        for turn in range(options.turns):
            gone = number * options.turns + turn
            first = gone * len(scenarios) // (options.rounds * options.turns)
            for scenario in scenarios[first:] + scenarios[:first]:
                baseline = trials.get(scenario.baseline)
                # Bare nginx is sent the very same requests: long cookies cost it something too.
                same = baseline and baseline.scenario.host == BARE
                before = baseline and baseline.measure(requests.of(scenario) if same else None)
                sample = trials[scenario.name].measure()
                results.add(scenario, sample, before)
                line = results.line(scenario, sample, before)
                print(f"round {number + 1}/{options.rounds} turn {turn + 1}  {line}", flush=True)


def complaints(scenario, seen: dict, total: int, calls: int, told: int, nginx: Nginx):
    """What shows that the scenario was not what its title says; of `total` requests in all."""
    refused = seen["requests"] if scenario.blocks else 0
    if seen["other_statuses"] != refused:
        yield f"{seen['other_statuses']} of {seen['requests']} answers were errors or blocks"
    if seen["socket_errors"]:
        yield f"{seen['socket_errors']} socket errors"
    for what, number, each in (
        ("Risk API calls", calls, scenario.risk_calls),
        ("activities", told, scenario.activities),
    ):
        # Requests that were under way when a load ended may have got no further.
        if abs(number - each * total) > 2 * CONNECTIONS:
            yield f"{number} {what} for {total} requests"
    if bad := [line for line in nginx.error_log().splitlines() if "[alert]" in line]:
        yield bad[0]


def press(nginx: Nginx, requests: Requests, load: Load) -> dict:
    """Lets wrk send the requests in turn; its own account of it."""
    wrk = shutil.which("wrk")
    if not wrk:
        raise Failure("wrk is missing (Debian: wrk)")
    script = Path(__file__).with_name("load.lua")
    command = [
        "taskset", "-c", OTHER_CORES, wrk, "-t1", f"-c{load.connections}",
        # wrk takes whole seconds; a shorter run is a warm-up.
        f"-d{max(1, round(load.seconds))}s", "--timeout", "10s", "-s", script,
        f"http://{nginx.address}", "--", requests.file, load.think_ms,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            return json.loads(line)
    raise Failure(f"wrk failed:\n{done.stdout}{done.stderr}\n{nginx.error_log()}")


def wait_for_activities(hosts: Hosts, before: int, expected: int) -> int:
    """Waits until that many more have arrived, or no more do; how many did."""
    told, since = hosts.activities(), time.monotonic()
    while told - before < expected and time.monotonic() - since < QUIET_SECONDS:
        time.sleep(0.1)
        now = hosts.activities()
        if now != told:
            told, since = now, time.monotonic()
    return told - before


def cpu_ns(pid: int) -> dict[str, int]:
    """CPU time of a worker in nanoseconds: of its event loop, and of other threads by name."""
    times: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = "event loop" if task.name == str(pid) else (task / "comm").read_text().strip()
        # User and system time together; finer than the ticks of `stat`.
        spent = int((task / "schedstat").read_text().split()[0])
        times[name] = times.get(name, 0) + spent
    return times


def rss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise Failure("no VmRSS")
