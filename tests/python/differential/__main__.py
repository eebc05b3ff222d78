"""python -m differential: see __init__.py."""

import argparse
import os
import sys

import navmap
from differential.campaign import Campaign, Runner, Summary, clock, hnswlib, report

TIERS = {"test": 60, "ci": 2_000, "long": 100_000}
SHORTER = 5  # by how much NAVMAP_SHORT shrinks a tier


def tier_programs() -> int:
    programs = TIERS[os.environ.get("NAVMAP_TIER") or "ci"]
    short = os.environ.get("NAVMAP_SHORT", "0") not in ("", "0")
    return programs // SHORTER if short else programs


def main() -> int:
    parser = argparse.ArgumentParser(prog="differential", description="Random programs of calls.")
    parser.add_argument("--programs", type=int, default=tier_programs())
    parser.add_argument("--seed", type=int, default=int(os.environ.get("NAVMAP_SEED", "20240617")))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--hnswlib",
        action=argparse.BooleanOptionalAction,
        help="compare with hnswlib too; otherwise if it is there",
    )
    parser.add_argument("--verbose", action="store_true", help="a table of what was called")
    parser.add_argument("--quiet", action="store_true", help="no line of progress")
    args = parser.parse_args()

    peer = hnswlib() if args.hnswlib is not False else None
    if args.hnswlib and peer is None:
        print("differential: hnswlib cannot be imported", file=sys.stderr)
        return 2
    where = "with hnswlib" if peer is not None else "the model only: hnswlib is not there"
    where = "the model only" if args.hnswlib is False else where
    print(f"differential: {args.programs} programs from seed {args.seed}, {where}", flush=True)
    runner = Runner(navmap, peer)
    begin = clock()

    def tell(summary: Summary) -> None:
        done = summary.passed + len(summary.failures)
        if not args.quiet and sys.stdout.isatty():
            print(f"\r{done} programs, {len(summary.failures)} failed", end="\r", flush=True)

    summary = Campaign(runner, args.seed, args.programs, args.jobs).run(tell)
    failed = report(runner, summary, clock() - begin, whole=5, calls=args.verbose)
    print(f"{summary.passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
