"""What the supervisor tells of its gateway."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from modelport.errors import ManifestError
from modelport.gateway import development_certificate
from modelport.gateway.settings import Settings
from modelport.supervisor.gateway import Front


@pytest.fixture
def front(tmp_path):
    (tmp_path / "models").mkdir()
    made = development_certificate.ensure(tmp_path / "models")
    settings = Settings(certificate=made.certificate, key=made.key)
    quotas = {"acme": (100, 7)}
    gateway = SimpleNamespace(
        repository=tmp_path / "models", settings=settings, running=True, quotas=lambda: dict(quotas)
    )
    return Front(gateway, lambda event: None, lambda: ())


def test_its_figures_are_the_certificates_end_and_what_tenants_have_left(front):
    found = front.figures()
    assert (found.up, found.restarts, found.quotas) == (True, 0, {"acme": (100, 7)})
    assert found.expires_at > time.time() + 300 * 86400


def test_what_cannot_be_read_is_left_out_and_the_rest_is_told(front):
    def damaged():
        raise ManifestError("the register of keys is damaged", why="", fix="")

    front.gateway.quotas = damaged
    front.gateway.settings.certificate.write_text("no certificate")
    found = front.figures()
    assert (found.up, found.quotas, found.expires_at) == (True, {}, None)
