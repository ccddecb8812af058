"""A certificate that cannot be read is a setting that is wrong, and said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from atm.errors import SettingsError
from atm.store import schema_upgrade
from atm.store.dsn import parse_sql_dsn


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\x00"], ids=repr)
@pytest.mark.parametrize("options", ["ssl_ca={}", "ssl_cert={}", "ssl_cert={0}&ssl_key={0}"])
def test_a_certificate_that_cannot_be_read_is_a_wrong_setting(
    tmp_path: Path, content: bytes | None, options: str
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    url = parse_sql_dsn(f"mysql://u:S3CRET@127.0.0.1:1/d?{options.format(file)}")
    with pytest.raises(SettingsError, match="MYSQL_DSN: a certificate or key cannot be read") as caught:
        schema_upgrade.upgrade(url)
    assert "S3CRET" not in str(caught.value)
