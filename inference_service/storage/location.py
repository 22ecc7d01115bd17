"""Which database is meant: a URL, none at all, or the SQLite file in the user's data folder."""

from __future__ import annotations

from pathlib import Path

from inference_service.settings import SettingsError

NONE = "none"
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def data_folder() -> Path:
    """The user's data folder of Midfill; it need not exist."""
    # Late: a service that keeps nothing needs no such folder.
    import platformdirs

    return Path(platformdirs.user_data_dir("midfill", appauthor=False))


def default_url() -> str:
    """The SQLite file that `midfill-serve keys create` makes when nothing else is said."""
    return f"sqlite:///{data_folder() / 'midfill.sqlite'}"


def of_service(setting: str) -> str:
    """The URL that a service uses, or "" for none: the default file counts only where it exists.

    Raises SettingsError for anything but `none`, `sqlite:///PATH` and `postgresql://…`.
    """
    if setting == NONE:
        return ""
    if setting:
        return checked(setting)
    url = default_url()
    return url if Path(sqlite_path(url)).exists() else ""


def checked(url: str) -> str:
    """`url` with its driver. Raises SettingsError, which does not quote the URL: it may hold a password."""
    scheme, separator, rest = url.partition("://")
    driver = _DRIVERS.get(scheme)
    if not separator or driver is None or (driver == "sqlite" and not rest.strip("/")):
        raise SettingsError(
            "database must be none, sqlite:///PATH, or postgresql://USER@HOST:PORT/NAME with its password"
        )
    if driver != "sqlite" and rest.partition("?")[0].count("@") > 1:  # the rest of it would be taken for the host
        raise SettingsError("an @ in the password of the database's URL must be written as %40")
    return f"{driver}://{rest}"


def sqlite_path(url: str) -> str:
    """The file of an SQLite URL, "" for another kind."""
    return url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ""
