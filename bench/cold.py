"""Cookies seen for the first time: what they cost, and how much of it is the key derivation."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hosts import WORKER_CORE, Hosts, visit
from measure import cpu_ns
from scenarios import SCENARIOS

NAMED = {scenario.name: scenario for scenario in SCENARIOS}
DERIVATIONS = 2000


@dataclass(frozen=True)
class Cold:
    """CPU time in microseconds for each request of a single client."""

    bare: float
    first_time: float
    again: float
    # One PBKDF2 by the crates alone, on the same core, in the same round.
    derivation: float

    @property
    def added(self) -> float:
        return self.first_time - self.bare


def measure_cold(hosts: Hosts, requests, tools: Path) -> Cold:
    """Sends 5,000 cookies once and once again, to bare nginx and to the module."""
    many, bare = NAMED["many-quiet"], NAMED["bare-proxied"]
    texts = requests.of(many).texts
    with hosts.start(bare) as nginx:
        visit(nginx, texts)
        cost_bare = cost(nginx, texts)
    with hosts.start(many) as nginx:
        # The connection to the origin, and what else is done once.
        visit(nginx, texts[:1] * 200)
        first_time = cost(nginx, texts)
        again = cost(nginx, texts)
    command = ["taskset", "-c", WORKER_CORE, tools / "derive", str(DERIVATIONS)]
    derivation = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cold(cost_bare, first_time, again, int(derivation.stdout) / 1000)


def cost(nginx, texts: list[str]) -> float:
    before = sum(cpu_ns(nginx.worker).values())
    visit(nginx, texts)
    return (sum(cpu_ns(nginx.worker).values()) - before) / len(texts) / 1000
