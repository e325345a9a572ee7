"""The check of a bearer token, from its shape to a principal (RFC 9068, 4).

The issuer, the audience, the algorithms and the type of token are pinned by settings; a token has
no say in which key checks it, apart from the id by which its issuer's key is found.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from threading import Lock

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key

from dpanalytics.access.accounts import LOCAL
from dpanalytics.access.claims import (
    MAX_TOKEN,
    Reason,
    Unverified,
    Verified,
    check_claims,
    read_header,
    read_payload,
    refuse,
)
from dpanalytics.access.local import LOCAL_ALGORITHM, LocalAccounts, local_accounts
from dpanalytics.access.principal import Principal, principal_of
from dpanalytics.access.provider import Provider, allowed_algorithms
from dpanalytics.errors import ConfigurationError
from dpanalytics.schema.access import Access
from dpanalytics.settings import Settings

LEEWAY = 30.0
"""Seconds by which the clocks of issuer and service may differ."""

REMEMBERED = 4_096
"""Good signatures remembered: 100 bytes each spare the 0.1 to 0.2 ms of checking one."""

Clock = Callable[[], datetime]


class TokenChecker:
    """Says who a bearer token speaks for. One a process; every method from any thread."""

    def __init__(
        self,
        *,
        access: Access,
        clock: Clock,
        provider: Provider | None = None,
        audience: str = "",
        algorithms: frozenset[str] = frozenset(),
        local: LocalAccounts | None = None,
    ) -> None:
        """With neither a provider nor local accounts every token is refused.

        Args:
            access: What claims give.
            clock: Now, with a time zone.
            provider: The university's, whose `issuer` tokens must name.
            audience: What this service is called in the provider's tokens.
            algorithms: Those allowed to the provider.
            local: Local accounts, where they are on.
        """
        self.local = local
        self._access = access
        self._clock = clock
        self._provider = provider
        self._audience = audience
        self._algorithms = algorithms
        self._signatures = _Signatures()
        self._readable = algorithms | ({LOCAL_ALGORITHM} if local is not None else frozenset())

    def check(self, bearer: str) -> Principal:
        """Who the token speaks for; waits while keys are fetched, which is seldom.

        Raises:
            SignInRefused: the token is not valid here, for whatever reason.
            ServiceBusy: nobody knows, since the provider does not answer.
        """
        found = self.check_at_once(bearer)
        if isinstance(found, Future):
            found.result()
            found = self.check_at_once(bearer)
        if isinstance(found, Future):  # still not known, straight after a fetch
            refuse(Reason.KEY)
        return found

    def check_at_once(self, bearer: str) -> "Principal | Future[None]":
        """Who the token speaks for, without waiting for the network.

        Returns:
            The person; or a future that is done when keys have been fetched, after which to ask
            again, once.

        Raises:
            SignInRefused: the token is not valid here, for whatever reason.
            ServiceBusy: nobody knows, since the provider does not answer.
        """
        token = read_header(bearer, algorithms=self._readable)
        # A key is bound to its issuer: which key was found decides which claims must stand there.
        if self.local is not None:
            key = self.local.key(token.key_id, token.algorithm)
            if key is not None:
                claims = self._verified(token, key, issuer=LOCAL, audience=LOCAL)
                return self.local.principal(claims)
        provider = self._provider
        if provider is None or token.algorithm not in self._algorithms:
            refuse(Reason.KEY)
        found = provider.key(token.key_id, token.algorithm)
        if isinstance(found, Future):
            return found
        if found is None:
            refuse(Reason.KEY)
        claims = self._verified(token, found, issuer=provider.issuer, audience=self._audience)
        return principal_of(
            claims.claims, self._access, issuer=provider.issuer, subject=claims.subject
        )

    def _verified(self, token: Unverified, key: Key, *, issuer: str, audience: str) -> Verified:
        self._signatures.check(token, key)
        now = self._clock().timestamp()
        return check_claims(
            read_payload(token), issuer=issuer, audience=audience, now=now, leeway=LEEWAY
        )


class _Registry(jws.JWSRegistry):
    """Headers may hold certificates, which we ignore; the size of the whole is limited before."""

    max_header_length = MAX_TOKEN
    max_payload_length = MAX_TOKEN
    max_signature_length = MAX_TOKEN


class _Signatures:
    """Checks signatures, and remembers the good ones.

    The same text is good again under the same key. Nothing else is remembered, so whatever may
    change (times, keys, accounts, the declaration) is looked at every time.
    """

    def __init__(self) -> None:
        self._good: OrderedDict[bytes, Key] = OrderedDict()
        self._lock = Lock()

    def check(self, token: Unverified, key: Key) -> None:
        """Refuse a token that this key did not sign by the algorithm that its header names.

        Raises:
            SignInRefused: it did not.
        """
        digest = hashlib.sha256(token.text.encode("ascii")).digest()
        with self._lock:
            if self._good.get(digest) is key:
                self._good.move_to_end(digest)
                return
        registry = _Registry(algorithms=[token.algorithm], strict_check_header=False)
        try:
            signed = jws.deserialize_compact(token.text, key, registry=registry)
        except JoseError:
            refuse(Reason.SIGNATURE)
        if signed.headers().get("alg") != token.algorithm or signed.payload != read_payload(token):
            refuse(Reason.SIGNATURE)  # never, unless our reader and the library's read differently
        with self._lock:
            self._good[digest] = key
            if len(self._good) > REMEMBERED:
                self._good.popitem(last=False)


def token_checker(
    settings: Settings, access: Access, *, clock: Clock, audience: str | None = None
) -> TokenChecker:
    """The checker that settings describe; reads no file and no address until a token comes.

    `audience` is what the service is called in tokens, where that is not what `settings` say.

    Raises:
        ConfigurationError: an issuer without an audience, an issuer over which keys can't be
            trusted, an algorithm that is not asymmetric, or local accounts on an address that
            other machines reach.
    """
    algorithms = allowed_algorithms(tuple(settings.token_algorithms))
    local = local_accounts(settings, clock=clock) if settings.local_accounts else None
    if settings.issuer is None:
        return TokenChecker(access=access, clock=clock, local=local)
    audience = audience or settings.audience
    if not audience:
        raise ConfigurationError("issuer without audience would let in tokens for others; set it")
    provider = Provider(settings.issuer, algorithms=algorithms, clock=lambda: clock().timestamp())
    return TokenChecker(
        access=access,
        clock=clock,
        provider=provider,
        audience=audience,
        algorithms=algorithms,
        local=local,
    )
