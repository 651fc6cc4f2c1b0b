#!/usr/bin/env python3
"""Prints what preflight says to every wrong input that the tests know:

.venv/bin/python benchmarks/preflight/wrong_inputs.py > benchmarks/preflight/wrong-inputs.md
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import tempfile
from types import ModuleType

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = ("| input | message | where | remedy |", "|---|---|---|---|")


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def row(title: str, problems: list) -> str:
    parts = ["<br>".join(getattr(problem, part) for problem in problems) for part in ("what", "where", "remedy")]
    return "| " + " | ".join(text.replace("|", "\\|") for text in (title, *parts)) + " |"


def main() -> None:
    load("tests/conftest.py")
    inventories = load("tests/unit/plugins/module_utils/test_preflight_messages.py")
    hosts = load("tests/unit/plugins/module_utils/test_preflight_hosts.py")
    print("# Wrong inputs and what preflight says\n")
    print(
        "Printed by `.venv/bin/python benchmarks/preflight/wrong_inputs.py`; the same cases run as unit tests. All problems of a run"
    )
    print("come in one message; here every input is sound but for the one thing that is named.\n")
    print("## In the inventory (no host is contacted)\n")
    print(*HEADER, sep="\n")
    for case in inventories.CASES:
        with tempfile.TemporaryDirectory() as directory:
            files = inventories.sound()
            case.change(files)
            problems, warnings = inventories.run(files, pathlib.Path(directory))
        print(row(case.title + (" (a warning)" if case.warning else ""), warnings if case.warning else problems))
    print("\n## On the hosts (read before the first change)\n")
    print(*HEADER, sep="\n")
    for case in hosts.CASES:
        print(row(case[0], hosts.found_in(case)))


if __name__ == "__main__":
    main()
