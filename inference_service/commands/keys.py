"""`midfill-serve keys create | list | rotate | revoke`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

from inference_service.commands.arguments import add_database, opened, parser, positive, seconds
from inference_service.guard.key_store import KeyStore
from inference_service.guard.keys import Key
from inference_service.guard.principal import SCOPES, Quota, parse_scopes


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code. Raises SettingsError, CommandError."""
    options = _parser().parse_args(arguments)
    with opened(options, environ) as database:
        options.run(KeyStore(database), options)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "keys", "Keys that clients send. A service that uses the same database knows a change within seconds."
    )
    actions = made.add_subparsers(required=True, metavar="create | list | rotate | revoke")

    create = actions.add_parser("create", help="make a key; it is shown this once")
    create.add_argument("--owner", required=True, help="person or team who answers for it")
    create.add_argument("--tenant", help="whose caches it shares, default: the owner")
    create.add_argument("--scopes", default="complete,events", help=f"some of {', '.join(SCOPES)}; %(default)s")
    create.add_argument("--expires", type=seconds, metavar="SPAN", help="such as 90d, default: never")
    create.add_argument("--requests-per-minute", type=positive, metavar="N", help="default: unlimited, as the next two")
    create.add_argument("--tokens-per-minute", type=positive, metavar="N", help="prompt and completion together")
    create.add_argument("--concurrency", type=positive, metavar="N", help="requests at once")
    create.set_defaults(run=_create)

    listing = actions.add_parser("list", help="all keys, without their secrets")
    listing.set_defaults(run=_list)

    rotate = actions.add_parser("rotate", help="a new secret for the same key; it is shown this once")
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument(
        "--overlap", type=seconds, default="24h", metavar="SPAN", help="how long the old one stays good; %(default)s"
    )
    rotate.set_defaults(run=_rotate)

    revoke = actions.add_parser("revoke", help="end a key for good")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, rotate, revoke):
        add_database(action)
    return made


def _create(store: KeyStore, options: argparse.Namespace) -> None:
    scopes = parse_scopes(options.scopes.split(","))
    quota = Quota(options.requests_per_minute, options.tokens_per_minute, options.concurrency)
    expires_at = None if options.expires is None else time.time() + options.expires
    key, plain = store.create(options.owner, options.tenant or options.owner, scopes, quota, expires_at)
    _say(f"key {key.id} of {key.owner}; this is the only time that it is shown:")
    print(plain)


def _list(store: KeyStore, _: argparse.Namespace) -> None:
    now = time.time()
    head = ("id", "owner", "tenant", "state", "expires", "scopes", "req/min", "tok/min", "at once")
    cells = [head, *(_cells(key, now) for key in store.load())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(key: Key, now: float) -> tuple[str, ...]:
    quota = key.principal.quota
    state = key.state(now)
    if state == "active" and len([one for one in key.secrets if one.expires_at is None or now < one.expires_at]) > 1:
        state = "rotating"
    expires = "never" if key.expires_at is None else time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(key.expires_at))
    limits = (quota.requests_per_minute, quota.tokens_per_minute, quota.concurrency)
    scopes = ",".join(name for name in SCOPES if name in key.principal.scopes)
    shown = ("-" if limit is None else str(limit) for limit in limits)
    return (key.id, key.owner, key.principal.tenant, state, expires, scopes, *shown)


def _rotate(store: KeyStore, options: argparse.Namespace) -> None:
    plain = store.rotate(options.id, options.overlap)
    hours = options.overlap / 3600
    _say(
        f"new secret of key {options.id}, the old one is good for {hours:g} h; this is the only time that it is shown:"
    )
    print(plain)


def _revoke(store: KeyStore, options: argparse.Namespace) -> None:
    store.revoke(options.id)
    _say(f"key {options.id} is revoked; services refuse it within seconds")


def _say(text: str) -> None:
    # Beside stdout, so that a script gets nothing but the key.
    print(text, file=sys.stderr, flush=True)
