"""The demonstration as a service: somebody to sign in as, and what to type next."""

import secrets
from contextlib import suppress

from dpanalytics.access.accounts import add_account, remove_account
from dpanalytics.demonstration.acts import CONSUMER
from dpanalytics.errors import ConfigurationError, RequestError
from dpanalytics.settings import Settings

ACCOUNT = "committee"


def make_account(settings: Settings) -> str:
    """Make the committee's account anew, and return its password, which is kept nowhere.

    Raises:
        ConfigurationError: the home lets no local accounts in, so it is none of a demonstration.
    """
    if not settings.local_accounts or settings.issuer is not None:
        raise ConfigurationError(
            f"{settings.home}: is no demonstration's home; serve it with: dpanalytics serve macro"
        )
    password = secrets.token_urlsafe(18)
    with suppress(RequestError):  # there is none yet
        remove_account(settings.accounts_file, name=ACCOUNT)
    add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name=ACCOUNT,
        password=password,
        consumers=[CONSUMER],
        declared_consumers=[CONSUMER],
    )
    return password


def what_to_type(address: str, password: str) -> str:
    """How one signs in and asks, as lines for a shell."""
    return f"""\
DEMONSTRATION: made-up students, an account for whoever reads this, this machine only.

In another terminal, sign in as the quality committee:

  TOKEN=$(curl -s {address}/v1/local/tokens -H 'content-type: application/json' \\
    -d '{{"name": "{ACCOUNT}", "password": "{password}"}}' | cut -d '"' -f 4)

and see what may be asked:

  curl -s {address}/v1/views -H "authorization: Bearer $TOKEN"

Ctrl-C ends it.
"""
