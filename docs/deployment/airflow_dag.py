"""Airflow: take up new items every hour, fit again every Sunday.

The tasks call the command line, so that Airflow's own environment needs no coldstart. A task that failed is tried
again, and goes on where it stopped. `max_active_runs=1` and a pool of one slot, since one process at a time may write.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

COLDSTART = "/opt/coldstart/.venv/bin/coldstart"
WORKSPACE = "/srv/shop/shop.workspace"
MANIFEST = "/srv/shop/items.jsonl"
DEFAULTS = {"retries": 2, "retry_delay": timedelta(minutes=10), "pool": "coldstart"}
"""`pool`: of one slot, so that the two pipelines below never write at once."""

with DAG(
    "coldstart_hourly",
    schedule="15 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
):
    run = BashOperator(
        task_id="run",
        bash_command=f"{COLDSTART} run --workspace {WORKSPACE} --manifest {MANIFEST}",
    )
    interactions = BashOperator(
        task_id="interactions",
        bash_command=f"{COLDSTART} ingest --workspace {WORKSPACE} --interactions /srv/shop/events.csv",
    )
    lists = BashOperator(
        task_id="lists",
        bash_command=(
            f"{COLDSTART} recommend --workspace {WORKSPACE} --users /srv/shop/users.csv --out /srv/shop/lists.parquet"
        ),
    )
    run >> interactions >> lists

with DAG(
    "coldstart_weekly_fit",
    schedule="0 3 * * 0",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
):
    fit = BashOperator(
        task_id="fit",
        bash_command=f"{COLDSTART} finetune behaviour --workspace {WORKSPACE}",
    )
    fill = BashOperator(
        task_id="fill",
        bash_command=f"{COLDSTART} run --workspace {WORKSPACE}",
    )
    fit >> fill
