"""What the programs at the root share: records, features, model, broker, detectors, reports."""

import sys

if sys.flags.optimize:  # said here because every program passes here first
    sys.stderr.write(
        "python -O (or PYTHONOPTIMIZE) removes the assertions that kafka-python needs to connect: start without it\n"
    )
    sys.exit(2)
