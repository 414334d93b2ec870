"""Brings a database to the tables that this program knows; forward only.

Alembic is imported only when there is something to do: importing it takes longer than all else at a usual start.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from pointsman.errors import ConfigError

HEAD: Final = "0031"
SCRIPTS: Final = Path(__file__).with_name("migrations")


def read_revision(connection: Connection) -> str | None:
    """The revision that ``connection``'s database stands at; None when it has never been migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(connection: Connection) -> None:
    """Run the missing scripts inside the caller's transaction, which must keep other processes out.

    Raises ConfigError when the database was made by a newer program.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    stored = read_revision(connection)
    if stored is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(stored)
        except CommandError:
            raise ConfigError(
                f"the database was written by a newer version of pointsman (its revision is {stored}, this program "
                f"knows {HEAD}): start that version again, or restore the backup from before the upgrade"
            ) from None
    command.upgrade(config, "head")
