"""The list of erased students with its key, for those who load."""

from dpanalytics.settings import Settings
from dpanalytics.store.erased import ErasedList
from dpanalytics.vault.erased import ErasedStudents
from dpanalytics.vault.keys import create_key, read_key, tidy_drafts


def erased_students(settings: Settings, *, students: str) -> ErasedStudents | frozenset[str]:
    """Tells of an identifier of this space whether its student was erased.

    Raises:
        ConfigurationError: the list is damaged, or its key is not usable.
    """
    marks = ErasedList(settings.erased).marks()
    if not marks:
        return frozenset()
    return ErasedStudents(read_key(settings.erased_key), students=students, marks=marks)


def keep_out(settings: Settings, identifier: str, *, students: str) -> None:
    """Add a student to the list, for good; by one process at a time.

    Raises:
        ConfigurationError: the list or its key is not usable.
    """
    listed = ErasedList(settings.erased)
    tidy_drafts(settings.erased_key)
    if not listed.marks() and not settings.erased_key.exists():
        create_key(settings.erased_key)
    erased = ErasedStudents(read_key(settings.erased_key), students=students, marks=())
    listed.add(erased.mark_of(identifier))
