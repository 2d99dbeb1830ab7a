"""Run one peer of Shoal, another k-means library, on a data folder and print one JSON document about it.

    python peer.py fit        --peer NAME --data DIR [--passes 20] [--repeats 3] [--threads 2]
    python peer.py solve      --peer NAME --data DIR --k K [--seed 0] [--repeats 3] [--threads 2]
    python peer.py silhouette --peer NAME --data DIR [--threads 2]
    python peer.py versions

README.md says what each command measures and how each peer is set up.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from errors import PeerError

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    args = parse_arguments()
    for variable in THREAD_LIMITS:
        os.environ[variable] = str(args.threads)
    try:
        # Only now: the numerical libraries read those variables once, when they are loaded.
        import runs

        document = getattr(runs, args.command)(args)
    except PeerError as error:
        print(f"peer.py: {error}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"peer.py: {error} (is requirements.txt installed?)", file=sys.stderr)
        return 1
    print(json.dumps(document, allow_nan=False))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    fit = commands.add_parser("fit", help="time a fixed number of passes from the given centroids")
    fit.add_argument("--passes", type=even, default=20)
    fit.add_argument("--repeats", type=positive, default=3)

    solve = commands.add_parser("solve", help="time the library's own seeding and convergence")
    solve.add_argument("--k", type=positive, required=True)
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument("--repeats", type=positive, default=3)

    silhouette = commands.add_parser("silhouette", help="time the exact silhouette of given labels")
    versions = commands.add_parser("versions", help="print the versions of everything that is measured")

    for command in (fit, solve, silhouette):
        command.add_argument("--peer", required=True)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--threads", type=positive, default=2)
    versions.set_defaults(threads=1)
    return parser.parse_args()


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def even(text: str) -> int:
    """A number of passes: half of it is run as well."""
    value = positive(text)
    if value % 2:
        raise argparse.ArgumentTypeError("must be even")
    return value


if __name__ == "__main__":
    sys.exit(main())
