"""Medians over the turns, the tables, and the bars with what was measured."""

import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median, quantiles

from bars import BARS
from hosts import nginx_binary
from measure import CONNECTIONS, Sample
from scenarios import LUA, PAIRS, SCENARIOS

NAMED = {scenario.name: scenario for scenario in SCENARIOS}


class Results:
    def __init__(self, scenarios):
        self.scenarios = scenarios
        self.samples: dict[str, list[Sample]] = {scenario.name: [] for scenario in scenarios}
        self.baselines: dict[str, list[Sample]] = {scenario.name: [] for scenario in scenarios}
        self.cold = []
        self.soak = None
        self.lua_skipped = None

    def skip_lua(self, why: str):
        self.lua_skipped = why
        self.scenarios = [scenario for scenario in self.scenarios if scenario.host != LUA]

    def add(self, scenario, sample: Sample, baseline: Sample | None):
        """A turn of a scenario, and that of its baseline just before."""
        self.samples[scenario.name].append(sample)
        if baseline:
            self.baselines[scenario.name].append(baseline)

    def line(self, scenario, sample: Sample, baseline: Sample | None) -> str:
        """One turn, while the benchmark runs."""
        line = f"{scenario.name:16} {sample.cpu:8.2f} µs  {sample.rate:6.0f}/s"
        if baseline:
            line += f"  own {sample.cpu - baseline.cpu:8.2f} µs"
        return "  ".join([line, *sample.complaints])

    # What the samples say.

    def has(self, *names: str) -> bool:
        return all(self.samples.get(name) for name in names)

    def middle(self, name: str, what) -> float:
        return median(what(sample) for sample in self.samples[name])

    def cpu(self, name: str) -> float:
        return self.middle(name, lambda sample: sample.cpu)

    def own(self, name: str) -> float:
        """Cost over that of the baseline just before."""
        return median(self._differences(name))

    def baseline(self, name: str, what=lambda sample: sample.cpu) -> float:
        """The baseline with this scenario's requests."""
        return median(what(sample) for sample in self.baselines[name])

    def spread(self, name: str) -> float:
        """Half of the range in which the middle half of the turns lies."""
        differences = self._differences(name)
        if len(differences) < 2:
            return float("nan")
        lower, _, upper = quantiles(differences, n=4, method="inclusive")
        return (upper - lower) / 2

    def _differences(self, name: str) -> list[float]:
        pairs = zip(self.samples[name], self.baselines[name])
        return [sample.cpu - base.cpu for sample, base in pairs]

    def complaints(self) -> list[str]:
        lines = [
            f"{scenario.name}: {complaint}"
            for scenario in self.scenarios
            for sample in self.samples[scenario.name] + self.baselines[scenario.name]
            for complaint in sample.complaints
        ]
        return list(dict.fromkeys(lines))

    # The page.

    def text(self, options) -> str:
        parts = [
            "# Results",
            "Written by `make bench`. [README.md](README.md) tells what is measured and how.",
            self._circumstances(options),
            self._table(),
            self._cold_table(),
            self._pairs(),
            self._bars(),
        ]
        if complaints := self.complaints():
            lines = "\n".join(f"- {line}" for line in complaints)
            parts.append(f"## Not as the scenario says\n\n{lines}")
        return "\n\n".join(part for part in parts if part) + "\n"

    def _circumstances(self, options) -> str:
        load = f"a pause of {options.think:g} ms on average before each request"
        lines = [
            f"- {machine()}",
            f"- {nginx_version()}; one worker on a core of its own, everything else on the others",
            f"- {options.rounds} rounds of {options.turns} turns of {options.seconds} s for each "
            f"scenario; {CONNECTIONS} "
            f"connections, {load if options.think else 'at full speed'}",
        ]
        if self.lua_skipped:
            lines.append(f"- the Lua plugin was skipped: {self.lua_skipped}")
        return "\n".join(lines)

    def _table(self) -> str:
        rows = [
            "## CPU time, latency, memory\n",
            "CPU is the worker's user and system time for each request, in µs; of it, what "
            "threads other than the event loop spent. Own is the cost over the baseline, which "
            "was sent the same requests just before, ± half of the interquartile range over the "
            "turns. p50 and p99 are in µs.\n",
            "| scenario | CPU | threads | baseline | own | ± | own / baseline | p50 | p99 | RSS "
            "| req/s |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for scenario in self.scenarios:
            name = scenario.name
            if not self.has(name):
                continue
            own = ["", "", "", ""]
            if self.baselines[name]:
                base = self.baseline(name)
                share = f"{self.own(name) / base:.1%}"
                own = [f"{base:.2f}", f"{self.own(name):.2f}", f"{self.spread(name):.2f}", share]
            cells = [
                scenario.title,
                f"{self.cpu(name):.2f}",
                f"{self.middle(name, lambda sample: sample.threads):.2f}",
                *own,
                f"{self.middle(name, lambda sample: sample.p50):.0f}",
                f"{self.middle(name, lambda sample: sample.p99):.0f}",
                f"{self.middle(name, lambda sample: sample.rss_kb) / 1024:.1f} MiB",
                f"{self.middle(name, lambda sample: sample.rate):.0f}",
            ]
            rows.append("| " + " | ".join(cells) + " |")
        return "\n".join(rows)

    def _cold_table(self) -> str:
        if not self.cold:
            return ""
        rows = [
            "## Cookies seen for the first time\n",
            "5,000 cookies, proxied, each sent once and once again by a single client; CPU in "
            "µs for each request.\n",
            "| | CPU |",
            "|---|--:|",
        ]
        for title, what in (
            ("bare nginx", lambda cold: cold.bare),
            ("first time", lambda cold: cold.first_time),
            ("second time", lambda cold: cold.again),
            ("one PBKDF2 by the `pbkdf2` and `sha2` crates alone", lambda cold: cold.derivation),
        ):
            rows.append(f"| {title} | {median(map(what, self.cold)):.2f} |")
        return "\n".join(rows)

    def _pairs(self) -> str:
        pairs = [pair for pair in PAIRS if self.has(*pair)]
        if not pairs:
            return ""
        rows = [
            "## Beside the Lua plugin\n",
            "Own CPU in µs for each request.\n",
            "| scenario | module | Lua plugin | ratio |",
            "|---|--:|--:|--:|",
        ]
        for ours, theirs in pairs:
            # Below the noise a ratio would be one to nothing.
            at_least = max(self.own(ours), self.spread(ours))
            sign = "" if at_least == self.own(ours) else "≥ "
            rows.append(
                f"| {NAMED[ours].title} | {self.own(ours):.2f} | {self.own(theirs):.2f} "
                f"| {sign}{self.own(theirs) / at_least:.0f} |"
            )
        return "\n".join(rows)

    def _bars(self) -> str:
        rows = ["## Bars\n", "| bar | measured | |", "|---|---|---|"]
        for bar, needs, look in BARS:
            measured, met = "not measured in this run", None
            if all(getattr(self, need, None) or self.has(need) for need in needs):
                measured, met = look(self)
            verdict = {True: "met", False: "**missed**", None: ""}[met]
            rows.append(f"| {bar} | {measured} | {verdict} |")
        return "\n".join(rows)


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    flags = (re.search(r"flags\s*: (.*)", info) or [""])[0].split()
    known = [flag for flag in ("sha_ni", "aes", "avx2") if flag in flags]
    cores = os.cpu_count()
    return (
        f"{model[1] if model else platform.machine()} ({', '.join(known)}), {cores} cores, "
        f"Linux {platform.release().split('-')[0]}"
    )


def nginx_version() -> str:
    told = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True).stderr
    return told.strip().removeprefix("nginx version: ")
