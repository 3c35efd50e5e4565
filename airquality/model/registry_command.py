"""The registry on the command line: ``python -m airquality registry``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airquality.ground import command, log
from airquality.ground.settings import Settings, read_settings

if TYPE_CHECKING:
    from airquality.model.registry import Promotion

_DESCRIPTION = "Say which version of the model serves, and change it after checks (registry: MLFLOW_TRACKING_URI)."
_EXAMPLES = """examples:
  python -m airquality registry seed                   artifacts/ become the champion where none serves yet
  python -m airquality registry list                   who serves, who served when
  python -m airquality registry promote challenger     let the newest trained model serve, after checks
  python -m airquality registry rollback               back to the version that served before
"""


def _parser() -> argparse.ArgumentParser:
    p = command.parser("python -m airquality registry", _DESCRIPTION, _EXAMPLES)
    verbs = p.add_subparsers(dest="verb", required=True)
    seed_verb = verbs.add_parser("seed", help="register ARTIFACTS_DIR as champion if no version serves yet")
    seed_verb.add_argument("--replace", action="store_true", help="... also where one does: for one that cannot be loaded")
    verbs.add_parser("list", help="the versions' aliases and the log of who served when")
    promote_verb = verbs.add_parser("promote", help="make a version the champion, after checks")
    promote_verb.add_argument("version", help="a version number, or 'challenger'")
    promote_verb.add_argument("--why", default="promoted by hand", help="goes into the log (%(default)s)")
    verbs.add_parser("rollback", help="make the version that served before the champion again")
    return p


def _run(args: argparse.Namespace, settings: Settings) -> str:
    from airquality.model import registry  # MLflow takes two seconds to import, which no --help should

    registry.configure()
    if args.verb == "seed":
        return f"{settings.model_name}: version {registry.seed(settings, args.replace)} is {settings.model_alias}"
    if args.verb == "promote":
        version = registry.challenger_version(settings) if args.version == registry.CHALLENGER else args.version
        registry.promote(settings, version, args.why)
        return f"{settings.model_name}: version {version} is now {settings.model_alias}"
    if args.verb == "rollback":
        return f"{settings.model_name}: version {registry.rollback(settings)} serves again"
    return _listing(settings, registry.aliases(settings), registry.promotions(settings))


def _listing(settings: Settings, aliases: Mapping[str, Sequence[str]], promotions: Sequence[Promotion]) -> str:
    lines = [f"version {version:>3}  {', '.join(names)}" for version, names in aliases.items()]
    lines += [
        f"{move.at:%Y-%m-%d %H:%M:%S}Z  {move.previous or '-'} -> {move.version}  by {move.by}: {move.why}"
        for move in promotions
    ]
    return "\n".join(lines) or f"{settings.model_name} has no versions yet"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("registry", lambda: _main(args))


def _main(args: argparse.Namespace) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    print(_run(args, settings))


if __name__ == "__main__":
    sys.exit(main())
