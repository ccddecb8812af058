"""What `atm doctor` makes of the settings that decide what an OK outlives."""

from __future__ import annotations

import pytest

from atm.store.durability import judge

SAFE = {"innodb_flush_log_at_trx_commit": "1", "log_bin": "ON", "sync_binlog": "1"}
SEMI = SAFE | {
    "rpl_semi_sync_master_enabled": "ON",
    "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_master_timeout": "4294967295",
}
WAITING = {"rpl_semi_sync_master_status": "ON", "rpl_semi_sync_master_clients": "1"}
#: MySQL's names since 8.0.26.
SOURCE = {name.replace("master", "source"): value for name, value in SEMI.items()}
SOURCE_WAITING = {name.replace("master", "source"): value for name, value in WAITING.items()}


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        (SEMI, WAITING),
        (SOURCE, SOURCE_WAITING),
        (SAFE | {"wsrep_on": "ON"}, {"wsrep_cluster_size": "3"}),
        (SAFE | {"group_replication_group_name": "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"}, {}),
        ({"version": "8.0.11-TiDB-v8.5.1"}, {}),
        ({"version": "5.7.25-OceanBase-v4.3.5"}, {}),
        ({"version_comment": "OceanBase seekdb 1.4"}, {}),
    ],
)
def test_set_ups_that_keep_what_was_accepted_are_fine(
    variables: dict[str, str], status: dict[str, str]
) -> None:
    assert all(finding.is_fine for finding in judge(variables, status))


@pytest.mark.parametrize(
    ("variables", "status", "advice"),
    [
        (SEMI | {"innodb_flush_log_at_trx_commit": "2"}, WAITING, "innodb_flush_log_at_trx_commit=1"),
        (SEMI | {"innodb_flush_log_at_trx_commit": "0"}, WAITING, "innodb_flush_log_at_trx_commit=1"),
        (SEMI | {"sync_binlog": "0"}, WAITING, "sync_binlog=1"),
        (SEMI | {"sync_binlog": "1000"}, WAITING, "sync_binlog=1"),
        (SEMI | {"rpl_semi_sync_master_wait_point": "AFTER_COMMIT"}, WAITING, "AFTER_SYNC"),
        (SEMI | {"rpl_semi_sync_master_timeout": "10000"}, WAITING, "rpl_semi_sync_master_timeout"),
        (SOURCE | {"rpl_semi_sync_source_timeout": "10000"}, SOURCE_WAITING, "rpl_semi_sync_source_timeout"),
        (SEMI, {"rpl_semi_sync_master_status": "OFF", "rpl_semi_sync_master_clients": "1"}, "replica"),
        (SEMI, {"rpl_semi_sync_master_status": "ON", "rpl_semi_sync_master_clients": "0"}, "replica"),
        (SAFE, {"slaves_connected": "1"}, "semi-synchronous"),
        (SAFE, {}, "semi-synchronous"),
        ({"innodb_flush_log_at_trx_commit": "1", "log_bin": "OFF"}, {}, "backups"),
        (SAFE | {"wsrep_on": "ON"}, {"wsrep_cluster_size": "2"}, "three nodes"),
    ],
)
def test_of_one_that_does_not_it_is_said_what_to_do(
    variables: dict[str, str], status: dict[str, str], advice: str
) -> None:
    (wrong,) = [finding for finding in judge(variables, status) if not finding.is_fine]
    assert advice in wrong.advice
    assert wrong.found
