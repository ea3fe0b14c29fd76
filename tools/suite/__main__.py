"""Runs a part of the tests and records its cost, or prints what all parts cost.

python -m tools.suite run PART COMMAND...    .lab/log/PART.txt has its output, .lab/timing/PART.jsonl the costs
python -m tools.suite clean                  forgets what former runs recorded
python -m tools.suite report                 the table; .lab/timing.json has all of it
"""

import sys

from tools.suite import records, run, table


def main(arguments: list[str]) -> int:
    """Do what the arguments name; return the exit code."""
    match arguments:
        case ["run", part, *command] if command:
            return run.run(part, command)
        case ["clean"]:
            records.clean()
        case ["report"]:
            table.report()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
