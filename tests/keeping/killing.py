"""Kills a process at its n-th step, for each n, and looks whether the same call ends the work.

Run as a program, `python -m tests.keeping.killing WORK HOME DIRECTORY STRIDE`.
A step is a file that is opened for writing, renamed or removed in the home, and the begin, the
commit and the end of each transaction. Each attempt is a fork, which ends by SIGKILL: what a
context manager would tidy up is left as it is.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dpanalytics.ledger.journal import open_journal
from dpanalytics.records.transactions import open_records
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import load_settings
from dpanalytics.vault.keys import next_key, read_key
from dpanalytics.wiring.keeping import Keeper
from dpanalytics.wiring.retention import Retention

from .worlds import World, identities_csv, student

EVENTS = ("open", "os.rename", "os.remove", "os.link")
WRITES = os.O_WRONLY | os.O_RDWR
LATER = datetime(2031, 1, 1, tzinfo=UTC)
"""When the loads of one source are due, and those of the others are not."""


class Steps:
    """Counts steps, and kills at one of them."""

    def __init__(self, home, last):
        self.home, self.left = str(home), last

    def tick(self, *_):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event, args):
        if event not in EVENTS or self.home not in str(args[0]) or "sqlite" in str(args[0]):
            return
        if event != "open" or (isinstance(args[2], int) and args[2] & WRITES):
            self.tick()


class Mortal:
    """Records or a journal, of which each transaction has three steps."""

    def __init__(self, inner, steps):
        self._inner, self._steps = inner, steps

    def __getattr__(self, name):
        return getattr(self._inner, name)

    @contextmanager
    def writing(self):
        self._steps.tick()
        with self._inner.writing() as connection:
            yield connection
            self._steps.tick()
        self._steps.tick()

    def append(self, kind, payload):
        self._steps.tick()
        seq = self._inner.append(kind, payload)
        self._steps.tick()
        return seq


def do(work, world, steps):
    """The work, whole, in this process."""
    settings = world.settings
    declared = read_declarations(settings.declarations)
    with (
        open_journal(settings, clock=lambda: datetime.now(UTC)) as journal,
        open_records(settings) as records,
    ):
        keeper = Keeper(declared, settings, Mortal(records, steps), Mortal(journal, steps))
        retention = Retention(declared, settings, Mortal(journal, steps), lambda: LATER)
        match work:
            case "vault":
                keeper.rotate_vault_key()
            case "pseudonyms":
                keeper.rotate_pseudonym_key(tell=steps.tick)
            case "erase":
                assert keeper.erase_student(student(1), tell=steps.tick).left == ()
            case "retain":
                retention.apply(tell=steps.tick)
            case "identities":
                keeper.load_identities(world.file("identities.csv", identities_csv(range(12))))


def is_done(work, world, keys):
    """Whether the key was replaced by the call that was killed: giving it again begins anew."""
    place = {"vault": world.settings.vault_key, "pseudonyms": world.settings.pseudonym_key}.get(
        work
    )
    return place is not None and read_key(place) != keys[work] and not next_key(place).exists()


def forked(call):
    """How a call ended that was made in a fork: 0, 1, or below 0 by a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            call()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(work, home, directory, stride):
    """Try every step, or every so many; print how many were tried, or say what went wrong."""
    place = Path(directory)
    tried = 0
    for step in range(1, 500, int(stride)):
        attempt = place / f"{step}"
        attempt.mkdir()
        files = attempt / "files"
        files.mkdir()
        world = World(
            load_settings(Path(shutil.copytree(home, attempt / "home")), environ={}), files
        )
        keys = {
            "vault": read_key(world.settings.vault_key),
            "pseudonyms": read_key(world.settings.pseudonym_key),
        }

        def die(world=world, step=step):
            steps = Steps(world.settings.home, step)
            sys.addaudithook(steps.audit)
            do(work, world, steps)

        def finish(world=world, keys=keys, attempt=attempt):
            if not is_done(work, world, keys):
                do(work, world, Steps(world.settings.home, -1))
            told = world.told() | {
                "consents": len(world.entries("consent")),
                "entries": len(world.entries(KINDS[work])),
                "left": sorted(
                    path.name
                    for path in world.settings.home.rglob("*")
                    if path.name.startswith(("draft-", ".")) or path.name.endswith(".next")
                ),
            }
            (attempt / "told.json").write_text(json.dumps(told, default=str))

        ended = forked(die)
        if ended not in (0, -signal.SIGKILL):
            raise SystemExit(f"step {step}: ended with {ended}")
        if forked(finish):
            raise SystemExit(f"step {step}: could not be ended")
        tried += 1
        sys.stdout.write(f"{step} {(attempt / 'told.json').read_text()}\n")
        shutil.rmtree(attempt)
        if ended == 0:
            return
    raise SystemExit(f"{tried} steps and no end")


KINDS = {
    "vault": "rotation",
    "pseudonyms": "rotation",
    "erase": "erasure",
    "retain": "retention",
    "identities": "identities",
}

if __name__ == "__main__":
    main(*sys.argv[1:])
