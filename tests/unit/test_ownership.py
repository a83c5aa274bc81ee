"""What a history has made is read from its migrations, not from how tables are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from webhooks.database.migrations.ownership import made

HEAD = "import sqlalchemy as sa\nfrom alembic import op\n\n\ndef upgrade():\n"


def history(directory: Path, *bodies: str) -> list[Path]:
    files = []
    for number, body in enumerate(bodies, 1):
        path = directory / f"{number:04d}.py"
        path.write_text(HEAD + "".join(f"    {line}\n" for line in body.splitlines()))
        files.append(path)
    return files


BEDS = 'op.create_table("garden_beds", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("a", sa.Text(), index=True))'


@pytest.mark.parametrize(
    ("bodies", "tables"),
    [
        ([BEDS], {"garden_beds"}),
        ([BEDS, 'op.rename_table("garden_beds", "beds")'], {"beds"}),
        ([BEDS, 'op.drop_table("garden_beds")'], set()),
        (['op.execute("create table if not exists public.garden_beds (id integer)")'], {"garden_beds"}),
        (['op.execute(sa.text("""CREATE TABLE\\n "garden_beds" (id integer)"""))'], {"garden_beds"}),
        ([BEDS, 'op.execute("alter table garden_beds rename to beds; drop table if exists other")'], {"beds"}),
        (['op.get_bind().exec_driver_sql("create table a (id integer)")'], {"a"}),
        (['if op.get_bind().dialect.name == "postgresql":\n    op.execute("create table a (id integer)")'], {"a"}),
        (['if op.get_context().dialect.name == "sqlite":\n    op.execute("create table a (id integer)")'], {"a"}),
        (
            ['for row in op.get_bind().execute(sa.text("select 1")):\n    op.drop_table(row.name)', BEDS],
            {"garden_beds"},
        ),
        (
            ['t = sa.Table("a", sa.MetaData(), sa.Column("id", sa.Integer))\nt.metadata.create_all(op.get_bind())'],
            {"a"},
        ),
        (['op.create_table(f"garden_{1}", sa.Column("id", sa.Integer))'], {"garden_1"}),
        (['rows = op.create_table("a", sa.Column("n", sa.Text))\nop.bulk_insert(rows, [{"n": "x"}])'], {"a"}),
    ],
)
def test_tables_are_known_however_they_were_made(tmp_path: Path, bodies: list[str], tables: set[str]) -> None:
    assert set(made(history(tmp_path, *bodies))) == tables


def test_columns_indexes_and_constraints_are_known(tmp_path: Path) -> None:
    files = history(
        tmp_path,
        BEDS,
        'op.add_column("garden_beds", sa.Column("b", sa.Text()))\nop.create_index("ix_b", "garden_beds", ["b"])',
        'with op.batch_alter_table("garden_beds") as batch:\n'
        '    batch.add_column(sa.Column("c", sa.Text()))\n    batch.create_unique_constraint("uq_c", ["c"])\n'
        '    batch.alter_column("a", new_column_name="d")',
        'op.execute("create unique index concurrently ix_raw on garden_beds (b)")\n'
        'op.execute("alter table garden_beds add column e text")',
        'op.create_index("ix_other", "somebody_elses", ["b"])',
    )
    assert made(files) == {"garden_beds": {"id", "a", "ix_garden_beds_a", "b", "ix_b", "c", "uq_c", "d", "ix_raw", "e"}}


def test_a_migration_that_cannot_run_without_a_database_is_read(tmp_path: Path) -> None:
    files = history(tmp_path, "sa.inspect(op.get_bind()).get_table_names()\n" + BEDS)
    assert set(made(files, {"garden_beds", "garden_spades"})) == {"garden_beds"}
