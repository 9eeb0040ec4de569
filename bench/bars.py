"""What the project asks of itself: each bar, the scenarios it needs, and how to look.

Every `look` takes the results and gives what was measured, in words, and whether that will do.
"""

from statistics import median


def share_of_proxying(name: str, limit: float):
    def look(results):
        share = results.own(name) / results.baseline(name)
        return f"{results.own(name):.2f} µs, {share:.1%}", share <= limit

    return look


def added(name: str, limit: float):
    def look(results):
        own = results.own(name)
        return f"{own:.2f} ± {results.spread(name):.2f} µs", own <= limit

    return look


def beside_lua(results):
    ours, theirs = results.own("hot"), results.own("lua-hot")
    return f"{ours:.2f} µs to {theirs:.0f} µs: 1/{theirs / ours:.0f}", ours <= theirs / 150


def warm_cache(results):
    many, hot = results.own("many-quiet"), results.own("hot-quiet")
    return f"{many:.2f} µs to {hot:.2f} µs: {many / hot - 1:+.0%}", many <= hot * 1.1


def cold_cache(results):
    added = median(cold.added for cold in results.cold)
    derivation = median(cold.derivation for cold in results.cold)
    share = derivation / added
    return f"{derivation:.0f} µs of {added:.0f} µs: {share:.1%}", share >= 0.95


def beside_auth_request(results):
    ours, theirs = results.own("no-cookie"), results.own("auth-request")
    whole = results.cpu("no-cookie") / results.cpu("auth-request")
    measured = f"added {ours:.1f} µs to {theirs:.1f} µs: {ours / theirs:.2f} ×"
    measured += f"; in all {whole:.2f} ×"
    return measured, ours <= theirs * 1.5


def latency(name: str):
    def look(results):
        p99 = lambda sample: sample.p99
        ours, bare = results.middle(name, p99), results.baseline(name, p99)
        return f"{ours:.0f} µs to {bare:.0f} µs: {ours / bare - 1:+.0%}", ours <= bare * 1.1

    return look


def memory(results):
    early, late = results.soak.rss_early_kb, results.soak.rss_late_kb
    growth = late / early - 1
    return f"{early / 1024:.1f} MiB to {late / 1024:.1f} MiB: {growth:+.1%}", abs(growth) <= 0.02


def steady_activities(results):
    lost = results.soak.steady
    measured = f"{lost.missing} of {lost.requests:,} at {lost.rate:,.0f}/s"
    return measured, lost.missing == 0


def outage_activities(results):
    lost = results.soak.outage
    if lost is None:
        return "the module knows no `px_activity_spool`", False
    return f"{lost.missing} of {lost.requests:,} at {lost.rate:,.0f}/s", lost.missing == 0


# What is asked, the scenarios it needs, and how to look.
BARS = [
    (
        "hot cookie, no activities: ≤ 5 % of what bare nginx spends on proxying",
        ["hot-quiet", "bare-proxied"], share_of_proxying("hot-quiet", 0.05),
    ),
    (
        "hot cookie, activities: ≤ 15 % of it",
        ["hot", "bare-proxied"], share_of_proxying("hot", 0.15),
    ),
    (
        "hot cookie, activities: ≤ 1/150 of the Lua plugin's own cost",
        ["hot", "lua-hot"], beside_lua,
    ),
    (
        "5,000 cookies, cache warm: within 10 % of the hot cookie's own cost",
        ["many-quiet", "hot-quiet"], warm_cache,
    ),
    ("cache cold: PBKDF2 alone is ≥ 95 % of the added cost", ["cold"], cold_cache),
    (
        "forged cookies beyond the budget: ≤ 10 µs each over the Risk API call",
        ["forged-beyond", "no-cookie"], added("forged-beyond", 10),
    ),
    (
        "no cookie → Risk API: ≤ 1.5 × what `auth_request` adds",
        ["no-cookie", "auth-request"], beside_auth_request,
    ),
    ("filtered: ≤ 1 µs added", ["filtered", "bare-static"], added("filtered", 1.0)),
    (
        "`px_enabled off`, 1 kB file: ≤ 0.2 µs",
        ["off-static", "bare-static"], added("off-static", 0.2),
    ),
    (
        "`px_enabled off`, proxied: ≤ 0.2 µs",
        ["off-proxied", "bare-proxied"], added("off-proxied", 0.2),
    ),
    (
        "hot cookie, no activities: p99 within 10 % of bare nginx's",
        ["hot-quiet", "bare-proxied"], latency("hot-quiet"),
    ),
    (
        "hot cookie, activities: p99 within 10 % of bare nginx's",
        ["hot", "bare-proxied"], latency("hot"),
    ),
    ("RSS between request 200,000 and 2,000,000: ± 2 %", ["soak"], memory),
    ("activities lost with the collector up: 0", ["soak"], steady_activities),
    ("activities lost over an outage of 30 s, with the spool: 0", ["soak"], outage_activities),
]
