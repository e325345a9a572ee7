"""JSON Schemas of the declarations, so that an editor completes and checks them while typing.

Each declaration names its schema in its first line. The files are generated; a test fails when
they are not current. They say less than the models: only `declared.py` decides.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from dpanalytics.schema.access import Access
from dpanalytics.schema.budget import Caps, Consumer
from dpanalytics.schema.case import Case
from dpanalytics.schema.consenttext import ConsentPolicy, ConsentText
from dpanalytics.schema.identities import IdentityFile
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.schema.openness import Openness
from dpanalytics.schema.programme import Programme
from dpanalytics.schema.source import Source
from dpanalytics.schema.view import View

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MODELS: Mapping[str, type[BaseModel]] = {
    "source": Source,
    "view": View,
    "consumer": Consumer,
    "caps": Caps,
    "case": Case,
    "basis": Basis,
    "indicator": Indicator,
    "programme": Programme,
    "consent_text": ConsentText,
    "consent_policy": ConsentPolicy,
    "identities": IdentityFile,
    "openness": Openness,
    "access": Access,
}
"""Each kind of declaration with its model; the name is also the name of the file."""


def json_schema(kind: str) -> str:
    """The JSON Schema of one kind of declaration, as the text of its file."""
    schema = {"$schema": DIALECT, **MODELS[kind].model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_json_schemas(directory: Path) -> tuple[Path, ...]:
    """Write the schema of every kind of declaration; returns the files written."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in MODELS:
        path = directory / f"{kind}.json"
        path.write_text(json_schema(kind), encoding="utf-8")
        written.append(path)
    return tuple(written)
