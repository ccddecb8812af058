"""Where SQL and Redis are, in every form that people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm.broker.address import parse_cluster_url, parse_redis_addr, parse_sentinel_url
from atm.errors import SettingsError
from atm.store.dsn import parse_sql_dsn


def test_the_default_dsn_of_existing_deployments_is_read() -> None:
    url = parse_sql_dsn(
        "root:password@tcp(localhost:3306)/asynctask?parseTime=true&loc=Local&charset=utf8mb4"
    )
    assert (url.drivername, url.username, url.password) == ("mysql+pymysql", "root", "password")
    assert (url.host, url.port, url.database) == ("localhost", 3306, "asynctask")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_password_comes_through_the_go_form(password: str) -> None:
    url = parse_sql_dsn(f"user:{password}@tcp([::1]:3307)/db?timeout=5s")
    assert (url.password, url.host, url.port) == (password, "::1", 3307)
    assert url.query["connect_timeout"] == "5"


@pytest.mark.parametrize(
    "dsn", ["sqlite:////data/atm.db", "sqlite:///atm.db", "mysql+pymysql://u:p%40w@h/db"]
)
def test_sqlalchemy_urls_are_taken(dsn: str) -> None:
    assert parse_sql_dsn(dsn).database


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "secret",
        "root:secret@tcp(h:x)/db",
        "root:secret@tcp(h:1)/",
        "postgresql://u:secret@h/db",
        "sqlite://",
    ],
)
def test_a_dsn_that_cannot_be_used_is_refused_without_showing_its_password(dsn: str) -> None:
    with pytest.raises(SettingsError, match="MYSQL_DSN") as caught:
        parse_sql_dsn(dsn)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:6379", "redis://localhost:6379/0"),
        ("cache", "redis://cache:6379/0"),
        ("[::1]:7000", "redis://[::1]:7000/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("rediss://:pw@h:1/2", "rediss://:pw@h:1/2"),
    ],
)
def test_redis_is_found_in_every_form(address: str, url: str) -> None:
    assert parse_redis_addr(address) == url


def test_sentinels_are_read() -> None:
    found = parse_sentinel_url("redis+sentinel://:p%40w@a:1,b/main/3")
    assert found.sentinels == [("a", 1), ("b", 26379)]
    assert (found.service, found.db, found.password) == ("main", 3, "p@w")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_clusters_are_read(scheme: str) -> None:
    found = parse_cluster_url(parse_redis_addr(f"{scheme}+cluster://u:p%40w@a:1,b,[::1]:7/0"))
    assert found.nodes == [("a", 1), ("b", 6379), ("::1", 7)]
    assert (found.tls, found.username, found.password) == (scheme == "rediss", "u", "p@w")


@pytest.mark.parametrize(
    "address",
    ["", "http://x", "h:port", "h:0", "redis+sentinel://a:1", "redis+cluster://", "redis+cluster://a:1/2"],
)
def test_a_redis_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_ADDR"):
        parse_redis_addr(address)
