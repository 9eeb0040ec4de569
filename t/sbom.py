#!/usr/bin/env python3
"""The SBOM is CycloneDX, names what is linked into the module and nothing else, and is the same each time.

usage: t/sbom.py MODULE.so
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
failed = passed = 0


def check(name, wrong):
    global failed, passed
    if wrong:
        failed += 1
        print(f"FAILED: {name}: {wrong}")
    else:
        passed += 1
        print(f"ok: {name}")


def write(directory):
    subprocess.run([ROOT / "packaging/sbom", "ngx-http-px-module", directory], check=True)
    return [(pathlib.Path(directory) / name).read_bytes() for name in ("ngx-http-px-module.cdx.json", "THIRD-PARTY")]


with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
    first, second = write(one), write(two)
check("two runs give the same bytes", first != second and "they differ")
bom = json.loads(first[0])
third_party = first[1].decode()

# What https://cyclonedx.org/schema/bom-1.5.schema.json requires, and the forms it gives.
check("format and version are named", (bom["bomFormat"], bom["specVersion"], bom["version"]) != ("CycloneDX", "1.5", 1)
      and "not CycloneDX 1.5")
check("the serial number is a UUID", not re.fullmatch(
    r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", bom["serialNumber"]) and bom["serialNumber"])
check("the time is one", not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bom["metadata"]["timestamp"])
      and bom["metadata"]["timestamp"])
components = [bom["metadata"]["component"], *bom["components"]]
check("every component has a type, a name, a version, a purl and a licence",
      [c for c in components if c.get("type") not in ("library", "application") or not all(
          c.get(field) for field in ("name", "version", "purl", "bom-ref", "licenses"))])
check("licences are SPDX expressions", [c["name"] for c in components if not all(
    re.fullmatch(r"[A-Za-z0-9.() -]+", licence["expression"]) for licence in c["licenses"])])
check("every hash is SHA-256", [c["name"] for c in components for h in c.get("hashes", [])
                                if h["alg"] != "SHA-256" or not re.fullmatch(r"[0-9a-f]{64}", h["content"])])
refs = [c["bom-ref"] for c in components]
check("each component is there once", len(refs) - len(set(refs)))
check("dependencies name components", {d["ref"] for d in bom["dependencies"]} ^ set(refs)
      or [r for d in bom["dependencies"] for r in d["dependsOn"] if r not in refs])
reached, todo = set(), [refs[0]]
edges = {d["ref"]: d["dependsOn"] for d in bom["dependencies"]}
while todo:
    ref = todo.pop()
    if ref not in reached:
        reached.add(ref)
        todo += edges[ref]
check("the module depends on all of them", set(refs) - reached)

# The binary itself says which sources can panic in it.
names = {(c["name"], c["version"]) for c in components}
text = pathlib.Path(sys.argv[1]).read_bytes()
seen = {(name.decode(), version.decode()) for name, version in re.findall(
    rb"/registry/src/[^/]+/([a-z0-9_-]+?)-(\d+\.\d+\.\d+[a-z0-9.+-]*)/src/", text)}
check("it names more than a few crates itself", len(seen) < 5 and sorted(seen))
check("whatever the binary names is listed", sorted(seen - names))
check("nothing is listed that only tests and build scripts need",
      {"bindgen", "cc", "px-sandbox", "rcgen", "syn", "serde_derive"} & {name for name, _ in names})
check("each crate's licence is in THIRD-PARTY", [c["name"] for c in components if "hashes" in c
      and f"\n{c['name']} {c['version']}: " not in third_party])
check("with its text", third_party.count("its source has no file with the licence"))
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
