"""`python -m tests.tools STAGE`: one stage with its output on the screen; `test`: all of them with a table at the end."""

from __future__ import annotations

import sys
import time

from tests.tools import molecule
from tests.tools.run import run_stage, summary
from tests.tools.stages import STAGES, TEST, steps_of


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in (*STAGES, "test"):
        print(f"{__doc__}\nStages: {', '.join(STAGES)}", file=sys.stderr)
        return 2
    everything = arguments[0] == "test"
    began = time.monotonic()
    results = []
    try:
        for stage in TEST if everything else arguments:
            results += run_stage(stage, steps_of(stage, ci=everything), show=not everything)
    except KeyboardInterrupt:
        print("\nInterrupted.")
        return 130
    finally:
        if everything or arguments[0] == "molecule":
            print("\n" + molecule.where_each_ran(ci=everything))
        if results:
            print(summary(results, time.monotonic() - began), flush=True)
    return 1 if any(result.outcome != "passed" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
