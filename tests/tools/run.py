"""Runs the steps of a stage: each timed, its output in a log, its tests counted; a table at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOGS = CHECKOUT / ".cache" / "test-logs"
TAIL_LINES = 80
LAST_LINES = 25


@dataclass(frozen=True)
class Step:
    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()  # steps that must have passed
    show: bool = False  # its output is meant for people


@dataclass(frozen=True)
class Result:
    stage: str
    step: str
    outcome: str  # passed, failed, not run
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""
    log: Path | None = None


def pytest(name: str, *arguments: str, **keywords) -> Step:
    """A step whose tests count one by one."""
    return Step(name, [sys.executable, "-m", "pytest", "--quiet", "--durations=5", *arguments], **keywords)


def counts(report: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of pytest's report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 our own file
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return max(total - failed - skipped, 0), failed, skipped


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "PY_COLORS": "0",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def run_step(stage: str, step: Step, show: bool) -> Result:
    LOGS.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^\w.-]+", "-", f"{stage}-{step.name}")
    log, report = LOGS / f"{slug}.log", LOGS / f"{slug}.xml"
    report.unlink(missing_ok=True)
    argv = list(step.argv)
    if "pytest" in argv[:3]:
        argv.append(f"--junitxml={report}")
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as sink:
        sink.write(f"$ {' '.join(argv)}\n")
        sink.flush()
        code = follow(argv, environment(step.environment), sink, show or step.show)
    seconds = time.monotonic() - began
    passed, failed, skipped = counts(report) if report.exists() else (int(code == 0), int(code != 0), 0)
    if code and not failed:
        failed = 1
    if code and not (show or step.show):
        print("\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]))
    note = f"{passed} passed, {failed} failed, {skipped} skipped" if report.exists() else ""
    return Result(stage, step.name, "failed" if code else "passed", seconds, passed, failed, skipped, note, log)


def follow(argv: Sequence[str], env: Mapping[str, str], sink, show: bool) -> int:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=CHECKOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        sink.write(f"{argv[0]}: {error}\n")
        return 127
    with process:
        for line in process.stdout or ():
            sink.write(line)
            sink.flush()
            if show or line.startswith("SKIPPED"):
                print(line, end="", flush=True)
        return process.wait()


def run_stage(name: str, steps: Sequence[Step], show: bool = False) -> list[Result]:
    results: list[Result] = []
    passed: set[str] = set()
    for step in steps:
        missing = [need for need in step.needs if need not in passed]
        if missing:
            why = f"because {missing[0]!r} didn't pass"
            print(f"-- {name}: {step.name}: not run {why}", flush=True)
            results.append(Result(name, step.name, "not run", 0.0, note=why))
            continue
        print(f"-- {name}: {step.name}", flush=True)
        result = run_step(name, step, show)
        print(f"   {result.outcome} after {duration(result.seconds)} {result.note}".rstrip(), flush=True)
        results.append(result)
        if result.outcome == "passed":
            passed.add(step.name)
    return results


def duration(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def last_words(result: Result) -> list[str]:
    """The end of its log once more: who reads a CI's output from its end has no access to the logs."""
    if not result.log or not result.log.exists():
        return []
    said = result.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return ["", f"{result.stage}: {result.step} said at its end:", *(f"  {line}" for line in said)]


def summary(results: Sequence[Result], seconds: float) -> str:
    lines = ["", f"{'stage':<12} {'step':<44} {'result':<8} {'time':>6}  "]
    for result in results:
        lines.append(
            f"{result.stage:<12} {result.step:<44} {result.outcome:<8} {duration(result.seconds):>6}  {result.note}"
        )
    slowest = sorted(results, key=lambda result: result.seconds, reverse=True)[:5]
    lines += ["", "slowest: " + ", ".join(f"{r.stage}: {r.step} {duration(r.seconds)}" for r in slowest)]
    bad = [result for result in results if result.outcome != "passed"]
    lines += [line for result in bad for line in last_words(result)]
    lines += [f"{result.outcome}: {result.stage}: {result.step} ({result.log or result.note})" for result in bad]
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results) + sum(result.outcome == "not run" for result in results)
    skipped = sum(result.skipped for result in results)
    lines += ["", f"all of it took {duration(seconds)}; logs are in {LOGS.relative_to(CHECKOUT)}"]
    lines += [f"{passed} passed, {failed} failed, {skipped} skipped"]
    return "\n".join(line.rstrip() for line in lines)
