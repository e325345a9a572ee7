"""From a person at a browser to an answer: the real provider, the real service, a local account."""

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dpanalytics.client import Client, ServiceUnreachable, SignInFailed, local_token, sign_in
from dpanalytics.errors import ConfigurationError, SignInRefused
from dpanalytics.settings import load_settings
from tests.access.issuing import AUDIENCE, ENTITLEMENT
from tests.access.real_provider import CLIENT, RealProvider, running
from tests.client.browser import Browser
from tests.client.conftest import ADA, PASSWORD
from tests.client.either import Time, client_of
from tests.client.service import Service, serving

ACCOUNTS = {"chair": {"entitlements": [ENTITLEMENT + "quality-committee"]}}
SIGN_IN = {"resource": AUDIENCE, "redirect_path": "/signed-in"}


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    with running(audiences=[AUDIENCE], accounts=ACCOUNTS) as found:
        yield found


@pytest.fixture(scope="module")
def address(provider: RealProvider, built_home: Path) -> Iterator[str]:
    """A service that trusts the real provider; nothing is spent here."""
    settings = load_settings(built_home, environ={}).model_copy(
        update={"issuer": provider.issuer, "audience": AUDIENCE}
    )
    with serving(settings) as found:
        yield found


def test_a_person_signs_in_through_the_browser_and_asks(
    provider: RealProvider, address: str, way: str
) -> None:
    browser = Browser("chair")
    token = sign_in(provider.issuer, CLIENT, opener=browser, **SIGN_IN)  # type: ignore[arg-type]
    assert browser.ended is not None
    assert "You may close this window" in browser.ended.text
    with client_of(way, address, token) as client:
        assert client.budget().consumer == "quality-committee"
        assert {view.name for view in client.views()} >= {"enrolments"}


def test_a_sign_in_renews_itself(provider: RealProvider, address: str) -> None:
    clock = Time()
    token = sign_in(
        provider.issuer,
        CLIENT,
        opener=Browser("chair"),
        scope="openid offline_access",
        clock=clock,
        **SIGN_IN,  # type: ignore[arg-type]
    )
    first = token()
    clock.now += 3600
    second = token()
    assert second != first
    with Client(address, token) as client:
        assert client.budget().consumer == "quality-committee"


def test_a_person_who_declines_is_not_signed_in(provider: RealProvider) -> None:
    with pytest.raises(SignInFailed, match="access_denied"):
        sign_in(provider.issuer, CLIENT, opener=Browser("chair", agrees=False), **SIGN_IN)  # type: ignore[arg-type]


def test_a_local_account_signs_in_on_this_machine(service: Service, way: str) -> None:
    token = local_token(service.address, ADA, PASSWORD)
    assert token() not in f"{token!r} {vars(token)}"
    with client_of(way, service.address, token) as client:
        assert client.budget().consumer == "quality-committee"


def test_a_wrong_password_is_refused_and_not_shown(service: Service) -> None:
    with pytest.raises(SignInRefused) as caught:
        local_token(service.address, ADA, "correct horse battery stable")
    assert "stable" not in f"{caught.value!r} {vars(caught.value)}"
    with pytest.raises(ConfigurationError, match="in the open"):
        local_token("http://analytics.example.ac.uk", ADA, PASSWORD)
    with pytest.raises(ServiceUnreachable):
        local_token("http://127.0.0.1:9", ADA, PASSWORD)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "made up")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("certificate")
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return files


def test_a_certificate_must_be_vouched_for(
    built_home: Path, certificate: tuple[Path, Path], service: Service, way: str
) -> None:
    known, key = certificate
    settings = service.issuer.settings_for(load_settings(built_home, environ={}))
    options: dict[str, Any] = {"ssl_certfile": str(known), "ssl_keyfile": str(key)}
    token = service.token("quality-committee")
    with serving(settings, **options) as address:
        assert address.startswith("https://")
        with (
            client_of(way, address, token) as client,
            pytest.raises(ServiceUnreachable, match="certificate verify failed"),
        ):
            client.views()
        with client_of(way, address, token, ca_file=known) as client:
            assert client.views()
        by_name = address.replace("127.0.0.1", "localhost")  # which the certificate does not name
        with (
            client_of(way, by_name, token, ca_file=known) as client,
            pytest.raises(ServiceUnreachable, match="certificate verify failed"),
        ):
            client.views()


def test_a_file_that_holds_no_certificates_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for file in (tmp_path / "empty.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match=file.name):
            Client("https://analytics.example.ac.uk", "token", ca_file=file)
