"""Tables and migrations, on both kinds of database."""

import multiprocessing
import stat

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from inference_service.__main__ import main
from inference_service.settings import Settings, SettingsError
from inference_service.storage import location
from inference_service.storage.database import Database, connect
from inference_service.storage.schema import metadata


def test_the_migrations_make_the_tables_of_the_schema(database_url):
    assert main(["database", "upgrade", "--database", database_url]) == 0
    assert main(["database", "upgrade", "--database", database_url]) == 0, "safe to repeat"
    engine = connect(location.checked(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def upgrade(url):
    Database(location.checked(url)).upgrade()


def test_processes_that_upgrade_at_once_do_not_disturb_each_other(database_url):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=upgrade, args=(database_url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_postgres_is_not_upgraded_behind_the_operators_back(postgres, capsys):
    url = postgres.new_database()
    assert main(["keys", "list", "--database", url]) == 1
    assert "run: midfill-serve database upgrade" in capsys.readouterr().err


def test_tables_of_a_later_release_are_used_as_they_are(tmp_path):
    url = f"sqlite:///{tmp_path}/later.sqlite"
    upgrade(url)
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert main(["keys", "list", "--database", url]) == 0


def test_the_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "midfill.sqlite"
    upgrade(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("url", ["mysql://u:secret-word@h/db", "somewhere", "sqlite:///", "postgresql:"])
def test_another_url_is_refused_without_being_quoted(url, capsys):
    assert main(["keys", "list", "--database", url]) == 2
    said = capsys.readouterr().err
    assert said.startswith("midfill-serve: database must be none, sqlite:///PATH, or postgresql://")
    assert "secret-word" not in said and said.count("\n") == 1


def test_a_password_with_an_at_sign_is_told_and_not_taken_for_a_host(capsys):
    assert main(["keys", "list", "--database", "postgresql://u:pass@secret-word@127.0.0.1:9/db"]) == 2
    said = capsys.readouterr().err
    assert "written as %40" in said and "secret-word" not in said and said.count("\n") == 1


@pytest.mark.parametrize("url", ["u:secret-word@127.0.0.1:9/db", "127.0.0.1:9/db?user=u&password=secret-word"])
def test_a_server_that_is_gone_is_one_sentence_without_the_password(capsys, url):
    assert main(["keys", "list", "--database", f"postgresql://{url}"]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:9/db" in said and "cannot be used" in said
    assert "secret-word" not in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pa:ss@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:p/a@ss@h/db?x=1", "postgresql://u:***@h/db?x=1"),
        ("postgresql://h/db?user=u&password=pass&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("redis://:pass@h:6379/0", "redis://:***@h:6379/0"),
        ("sqlite:////var/lib/midfill.sqlite", "sqlite:////var/lib/midfill.sqlite"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_info_shows_urls_without_passwords(url, shown):
    assert Settings(database=url).public()["database"] == shown
    assert Settings(redis=url).public()["redis"] == shown


def test_the_default_file_counts_only_where_it_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert location.of_service("") == "" and list(tmp_path.iterdir()) == []
    assert main(["keys", "create", "--owner", "me"]) == 0
    assert location.of_service("") == f"sqlite:///{tmp_path}/midfill/midfill.sqlite"
    assert location.of_service("none") == ""
    with pytest.raises(SettingsError, match="none, sqlite"):
        location.of_service("file.db")
