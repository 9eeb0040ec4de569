"""Where the worker's time goes: perf, while a scenario runs."""

import shutil
import subprocess
import threading

from hosts import WORKER_CORE, Failure, Hosts, visit
from measure import Load, Requests, press

SECONDS = 8
SHOWN_PERCENT = 0.4


def profile(hosts: Hosts, scenario, requests: Requests, load: Load) -> str:
    """The worker's busiest functions under the load of the scenario, as perf reports them."""
    if not shutil.which("perf"):
        raise Failure("perf is missing (Debian: linux-perf)")
    with hosts.start(scenario) as nginx:
        visit(nginx, requests.texts)
        pressing = Load(SECONDS, load.think_ms, load.connections)
        thread = threading.Thread(target=press, args=(nginx, requests, pressing))
        thread.start()
        data = nginx.dir / "perf.data"
        # Virtual machines seldom count cycles; a timer does as well.
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "5000", "-o", data]
        record += ["-p", str(nginx.worker), "--", "sleep", str(SECONDS - 1)]
        record = ["taskset", "-c", WORKER_CORE, *record]
        done = subprocess.run(record, capture_output=True, text=True)
        thread.join()
        if done.returncode:
            raise Failure(f"perf record failed:\n{done.stderr}")
        return "\n".join(report(data, keys) for keys in ("comm,dso", "comm,dso,symbol"))


def report(data, keys: str) -> str:
    command = ["perf", "report", "-q", "-i", data, "--stdio", "--sort", keys]
    command += ["--percent-limit", str(SHOWN_PERCENT), "-n"]
    return subprocess.run(command, capture_output=True, text=True).stdout
