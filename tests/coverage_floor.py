"""`make coverage`: branch coverage of each sub-package, and a failure where one is below the floor."""

import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOOR = 0.85


def package(file):
    words = Path(file).parts
    return "/".join(words[:-1]) if len(words) < 4 else "/".join(words[:2])


def main():
    totals = defaultdict(lambda: [0, 0])
    for file, content in json.loads((ROOT / "coverage.json").read_text())["files"].items():
        if Path(file).is_absolute():  # a wheel that a test installed elsewhere
            continue
        found = content["summary"]
        totals[package(file)][0] += found["covered_lines"] + found["covered_branches"]
        totals[package(file)][1] += found["num_statements"] + found["num_branches"]
    shares = {name: covered / of for name, (covered, of) in sorted(totals.items())}
    for name, share in shares.items():
        print(f"{share:7.1%}  {name}")
    return sum(share < FLOOR for share in shares.values())


if __name__ == "__main__":
    sys.exit(main())
