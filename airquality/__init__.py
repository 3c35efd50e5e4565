"""What the programs at the root share: records, features, model, broker, detectors, reports."""

import sys

# Said here because every program passes here first. What is above 3.14 has no wheels of the libraries yet.
if not (3, 11) <= sys.version_info < (3, 15):
    sys.stderr.write(f"Python 3.11 to 3.14 is needed, this is {sys.version.split()[0]} ({sys.executable})\n")
    sys.exit(2)
if sys.flags.optimize:
    sys.stderr.write(
        "python -O (or PYTHONOPTIMIZE) removes the assertions that kafka-python needs to connect: start without it\n"
    )
    sys.exit(2)
