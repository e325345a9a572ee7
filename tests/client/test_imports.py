"""The client comes without the service: it starts quickly, and brings nothing that could decide."""

import json
import subprocess
import sys

HEAVY = ("opendp", "fastapi", "starlette", "sqlalchemy", "sqlglot", "uvicorn", "altair", "psycopg")
ROOMS = ("access", "api", "ledger", "store", "vault", "ingest", "wiring", "settings", "web")


def test_importing_the_client_imports_nothing_of_the_service() -> None:
    program = "import json, sys, dpanalytics.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert "dpanalytics.client.signin" in loaded
    for name in (*HEAVY, *(f"dpanalytics.{room}" for room in ROOMS)):
        assert not [m for m in loaded if m == name or m.startswith(f"{name}.")], name
    assert [m for m in loaded if m.startswith("dpanalytics.query.")] == [
        "dpanalytics.query.builder",
        "dpanalytics.query.request",
    ]
