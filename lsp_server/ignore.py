"""Which files never leave the machine: globs, as in a .gitignore, the last matching one decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

SECRET_GLOBS = (
    ".env*",
    "*.env",
    ".dev.vars",
    "*.pem",
    "*.key",
    "*.ppk",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.tfstate",
    "*.tfvars",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "credentials",
    "credentials.{json,yml,yaml,toml,ini,xml,csv}",
    "secrets.{json,yml,yaml,toml,ini,xml}",
    "service-account*.json",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".htpasswd",
    ".git-credentials",
    ".ssh/**",
    ".gnupg/**",
    ".aws/**",
    ".kube/**",
    ".docker/config.json",
)


def ignored_by(file: str, user_globs: Iterable[str] = ()) -> str | None:
    """The glob that keeps `file` (a path with `/`) from being sent, or None.

    User globs come after the built-in ones for secrets; `!glob` allows again. `*` and `?` stay within a path
    segment, `**` does not, `{a,b}` are alternatives; a glob may match at any depth; case does not matter.
    """
    decided: str | None = None
    for glob in (*SECRET_GLOBS, *user_globs):
        if _pattern(glob.removeprefix("!")).fullmatch(file):
            decided = None if glob.startswith("!") else glob
    return decided


def allowed_by(file: str, user_globs: Iterable[str]) -> bool:
    """Whether the last of `user_globs` that matches allows `file` again (`!glob`)."""
    matching = [glob for glob in user_globs if _pattern(glob.removeprefix("!")).fullmatch(file)]
    return bool(matching) and matching[-1].startswith("!")


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    out = []
    index = 0
    depth = 0
    body = glob.removeprefix("**/").lstrip("/")
    while index < len(body):
        char = body[index]
        if body.startswith("**/", index):
            out.append("(?:.*/)?")
            index += 3
            continue
        if body.startswith("**", index):
            out.append(".*")
            index += 2
            continue
        if char == "{" and "}" in body[index:]:
            out.append("(?:")
            depth += 1
        elif char == "}" and depth:
            out.append(")")
            depth -= 1
        elif char == "," and depth:
            out.append("|")
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)))
        index += 1
    # A glob that ends with a slash means everything below that folder.
    if body.endswith("/"):
        out.append(".*")
    # Nested braces may leave a group open; closing it keeps a typo from becoming an exception.
    return re.compile("(?:.*/)?" + "".join(out) + ")" * depth, re.IGNORECASE | re.DOTALL)
