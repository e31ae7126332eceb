"""Dagster: the catalogue as an asset, made again every hour, with the counts of its items as metadata.

It calls the Python interface, so Dagster's environment needs coldstart. A run that failed is tried again, and goes on
where it stopped.
"""

import dagster

WORKSPACE = "/srv/shop/shop.workspace"
MANIFEST = "/srv/shop/items.jsonl"


@dagster.asset(
    retry_policy=dagster.RetryPolicy(max_retries=2, delay=600),
    op_tags={"dagster/concurrency_key": "coldstart"},  # one writer at a time: give this key one slot
)
def shop_catalog(context: dagster.AssetExecutionContext) -> dagster.MaterializeResult:
    """Run the pipeline of the last run over the manifest."""
    import coldstart

    workspace = coldstart.open(WORKSPACE)
    report = workspace.run(manifest=MANIFEST)
    if report.over_budget:
        context.log.warning("too many items failed in %s", ", ".join(report.over_budget))
    served = next(stage for stage in report.stages if stage.kind == "index")
    counts = {"served": served.balance.fresh, "failed": served.balance.failed, "seconds": report.seconds}
    return dagster.MaterializeResult(metadata=counts)


hourly = dagster.ScheduleDefinition(
    name="shop_catalog_hourly",
    target=dagster.AssetSelection.assets(shop_catalog),
    cron_schedule="15 * * * *",
)

defs = dagster.Definitions(assets=[shop_catalog], schedules=[hourly])
