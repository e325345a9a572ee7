"""Declaration of the file that identities come from: the student record system's extract.

Pure: shapes and rules only; `declared.py` reads the file `schemas/vault/identities.yaml`.
"""

from typing import Self

from pydantic import Field, model_validator

from dpanalytics.schema.category import Category
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Column, Declaration, FileFormat, Name, Source

FIXED = ("student", "given_names", "family_name", "email")
"""What every identity has."""


class IdentityField(Declaration):
    """A further field that staff need in order to reach a student."""

    name: Name
    field: str | None = None
    """Header in the file; the name itself by default."""
    description: str


class IdentityFile(Declaration):
    """Where identities come from. Nothing of it is ever stored but sealed."""

    title: str
    description: str
    system: str
    """The university's system that the file comes from."""
    students: Name
    """Name of the identifier space, the same as that of the sources."""
    format: FileFormat
    student: str
    """Header of the student identifier."""
    given_names: str
    family_name: str
    email: str
    others: tuple[IdentityField, ...] = Field(default=(), max_length=20)

    def as_source(self) -> Source:
        """The same file as the rooms that read files know it.

        Raises:
            ValueError: a name is taken twice, or speaks of a refused category.
        """
        text = {"description": "", "category": Category.DEMOGRAPHICS, "optional": True}
        columns = [
            {"name": "student", "field": self.student, "description": "", "role": "student"}
            | {"category": Category.IDENTIFIER},
            *({"name": name, "field": getattr(self, name)} | text for name in FIXED[1:]),
            *({"name": f.name, "field": f.field or f.name} | text for f in self.others),
        ]
        return Source(
            name="identities",
            title=self.title,
            description=self.description,
            system=self.system,
            category=Category.DEMOGRAPHICS,
            purposes=(Purpose.IMPROVE_SUPPORT,),
            retention_years=1,
            students=self.students,
            format=self.format,
            columns=tuple(Column.model_validate(column) for column in columns),
        )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.format.type != "csv":
            raise ValueError(f"identities: format {self.format.type}; must be csv")
        self.as_source()
        return self
