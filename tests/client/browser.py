"""A browser that signs somebody in at the real provider, form after form."""

import html
import re
from urllib.parse import urljoin, urlsplit

import httpx


class Browser:
    """Opens an address, fills in what it is asked, and ends where the provider sends it."""

    def __init__(self, account: str, *, agrees: bool = True) -> None:
        self.account, self.agrees = account, agrees
        self.opened: list[str] = []
        """Addresses that a program had it open."""
        self.ended: httpx.Response | None = None
        """Page of the program that it ended on."""

    def __call__(self, address: str) -> bool:
        """Sign in; the program listens where the redirect leads."""
        self.opened.append(address)
        provider = urlsplit(address).netloc
        with httpx.Client() as web:
            response = web.get(address)
            for _ in range(12):
                if response.is_redirect:
                    target = urljoin(str(response.url), response.headers["location"])
                    response = web.get(target)
                    if urlsplit(target).netloc != provider:
                        self.ended = response
                        return True
                    continue
                form = re.search(r'<form[^>]*action="([^"]+)"', response.text)
                assert form, f"the provider answers {response.status_code}"
                fields = dict(
                    re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', response.text)
                )
                if fields["prompt"] == "login":
                    fields |= {"login": self.account, "password": "any"}
                elif not self.agrees:
                    abort = re.search(r'href="([^"]+/abort)"', response.text)
                    assert abort
                    response = web.get(urljoin(str(response.url), html.unescape(abort[1])))
                    continue
                response = web.post(html.unescape(form[1]), data=fields)
        raise AssertionError("the provider leads nowhere")
