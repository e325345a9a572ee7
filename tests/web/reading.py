"""Pages, read with the standard library's parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

INLINE = {"a", "code", "strong", "span"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    """A tag with its attributes, what encloses it, and the text within."""

    tag: str
    attributes: dict[str, str | None]
    within: tuple[str, ...]
    text: str = ""


@dataclass
class Page:
    """All elements in their order, and faults of nesting."""

    elements: list[Element] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._apart(tag)
        element = Element(tag, dict(attrs), tuple(e.tag for e in self._open))
        self.page.elements.append(element)
        if len(element.attributes) != len(attrs):
            self.page.faults.append(f"{tag}: an attribute twice")
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        self._apart(tag)
        if not self._open or self._open[-1].tag != tag:
            self.page.faults.append(f"</{tag}> where {[e.tag for e in self._open[-2:]]} is open")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def _apart(self, tag: str) -> None:
        """What stands in another block is another word."""
        if tag not in INLINE:
            self.handle_data(" ")

    def close(self) -> None:
        super().close()
        self.page.faults += [f"<{e.tag}> is never closed" for e in self._open]


def read(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page


def text_of(html: str) -> str:
    """What a reader sees in the body, spaces as one."""
    (body,) = read(html).all("body")
    return " ".join(body.text.split())
