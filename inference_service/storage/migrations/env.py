"""Alembic's entry: runs the migrations on the connection that `database.upgrade` opened and locked."""

from alembic import context

from inference_service.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
