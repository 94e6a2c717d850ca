"""The tables of the local Lambda, one step for each family of resources, and how a database from before gets there."""

from __future__ import annotations

from typing import Final


def _goes_with_qualifier(table: str) -> str:
    """Triggers that delete a row of `table` with the version or alias it hangs on, however that goes.

    A qualifier is '' (the function itself), $LATEST, a number or an alias's name: no column can refer to all of them.
    """
    return f"""
CREATE TRIGGER {table}_of_version AFTER DELETE ON version BEGIN
    DELETE FROM {table} WHERE function = OLD.function AND qualifier = CAST(OLD.number AS TEXT);
END;
CREATE TRIGGER {table}_of_alias AFTER DELETE ON alias BEGIN
    DELETE FROM {table} WHERE function = OLD.function AND qualifier = OLD.name;
END;
"""


_FUNCTIONS = """
CREATE TABLE function (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, tags BLOB NOT NULL,
    UNIQUE (account, region, name)
);
-- Outlives its function: AWS never uses a number again, even when a function is deleted and made anew.
CREATE TABLE numbering (
    account TEXT, region TEXT, name TEXT, last INTEGER NOT NULL, PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
CREATE TABLE version (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, number INTEGER NOT NULL,
    settings BLOB NOT NULL, digest TEXT NOT NULL, revision TEXT NOT NULL, settled_revision TEXT NOT NULL,
    stage TEXT NOT NULL, settles_at REAL NOT NULL, previous BLOB, code TEXT NOT NULL, code_size INTEGER NOT NULL,
    PRIMARY KEY (function, number)
) WITHOUT ROWID;
CREATE INDEX version_code ON version (function, code_size, code);
CREATE TABLE alias (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, name TEXT NOT NULL, description TEXT NOT NULL,
    version INTEGER NOT NULL, additional INTEGER, weight REAL, revision TEXT NOT NULL,
    PRIMARY KEY (function, name),
    FOREIGN KEY (function, version) REFERENCES version,
    FOREIGN KEY (function, additional) REFERENCES version
) WITHOUT ROWID;
CREATE INDEX alias_version ON alias (function, version);
CREATE INDEX alias_additional ON alias (function, additional);
"""
_POLICIES = """
CREATE TABLE policy (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT NOT NULL,
    revision TEXT NOT NULL, statements BLOB NOT NULL,
    PRIMARY KEY (function, qualifier)
) WITHOUT ROWID;
""" + _goes_with_qualifier("policy")
_CONTROLS = """
ALTER TABLE function ADD COLUMN reserved INTEGER;
ALTER TABLE function ADD COLUMN recursion TEXT NOT NULL DEFAULT 'Terminate';
CREATE TABLE event_invoke (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT NOT NULL, settings BLOB NOT NULL,
    PRIMARY KEY (function, qualifier)
) WITHOUT ROWID;
""" + _goes_with_qualifier("event_invoke")
_PROVISIONED = """
CREATE TABLE provisioned (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT NOT NULL, number INTEGER NOT NULL,
    modified TEXT NOT NULL, settles_at REAL NOT NULL,
    PRIMARY KEY (function, qualifier)
) WITHOUT ROWID;
""" + _goes_with_qualifier("provisioned")
_URLS = """
CREATE TABLE url (
    id TEXT PRIMARY KEY, function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT NOT NULL,
    settings BLOB NOT NULL,
    UNIQUE (function, qualifier)
) WITHOUT ROWID;
""" + _goes_with_qualifier("url")

_LAYERS = """
-- Outlives its versions: AWS never uses a layer version's number again.
CREATE TABLE layer (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL,
    UNIQUE (account, region, name)
);
-- A deleted version stays while functions have it: they go on running with it.
CREATE TABLE layer_version (
    layer INTEGER NOT NULL REFERENCES layer ON DELETE CASCADE, number INTEGER NOT NULL, facts BLOB NOT NULL,
    code TEXT NOT NULL, code_size INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0,
    policy BLOB, policy_revision TEXT,
    PRIMARY KEY (layer, number)
) WITHOUT ROWID;
CREATE TABLE code_signing (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, facts BLOB NOT NULL,
    tags BLOB NOT NULL,
    UNIQUE (account, region, name)
);
ALTER TABLE function ADD COLUMN code_signing INTEGER REFERENCES code_signing;
CREATE INDEX function_code_signing ON function (code_signing);
"""
# The sum is kept, not computed: publishing the 20,000th version must cost what publishing the first did.
_STORAGE = """
CREATE TABLE storage (
    account TEXT, region TEXT, used INTEGER NOT NULL DEFAULT 0, quota INTEGER, PRIMARY KEY (account, region)
) WITHOUT ROWID;
INSERT INTO storage (account, region, used)
    SELECT account, region, SUM(code_size) FROM function JOIN version ON function = id GROUP BY account, region;
CREATE TRIGGER version_stored AFTER INSERT ON version BEGIN
    INSERT INTO storage (account, region, used) SELECT account, region, NEW.code_size FROM function
        WHERE id = NEW.function ON CONFLICT DO UPDATE SET used = used + excluded.used;
END;
CREATE TRIGGER version_stored_anew AFTER UPDATE OF code_size ON version WHEN OLD.code_size <> NEW.code_size BEGIN
    UPDATE storage SET used = used - OLD.code_size + NEW.code_size
        WHERE (account, region) = (SELECT account, region FROM function WHERE id = NEW.function);
END;
-- When a function goes, its row does before its versions do: they then find no account to be taken from.
CREATE TRIGGER version_unstored AFTER DELETE ON version BEGIN
    UPDATE storage SET used = used - OLD.code_size
        WHERE (account, region) = (SELECT account, region FROM function WHERE id = OLD.function);
END;
CREATE TRIGGER function_unstored BEFORE DELETE ON function BEGIN
    UPDATE storage SET used = used - (SELECT COALESCE(SUM(code_size), 0) FROM version WHERE function = OLD.id)
        WHERE account = OLD.account AND region = OLD.region;
END;
CREATE TRIGGER layer_stored AFTER INSERT ON layer_version BEGIN
    INSERT INTO storage (account, region, used) SELECT account, region, NEW.code_size FROM layer
        WHERE id = NEW.layer ON CONFLICT DO UPDATE SET used = used + excluded.used;
END;
CREATE TRIGGER layer_unstored AFTER UPDATE OF deleted ON layer_version WHEN NEW.deleted AND NOT OLD.deleted BEGIN
    UPDATE storage SET used = used - OLD.code_size
        WHERE (account, region) = (SELECT account, region FROM layer WHERE id = OLD.layer);
END;
"""

_PROVISIONED_IN_VAIN = "ALTER TABLE provisioned ADD COLUMN reason TEXT;"  # why it failed
_RUNTIME_MANAGEMENT = """
CREATE TABLE runtime_management (
    function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT NOT NULL, mode TEXT NOT NULL,
    arn TEXT,
    PRIMARY KEY (function, qualifier)
) WITHOUT ROWID;
""" + _goes_with_qualifier("runtime_management")

_ASYNCHRONOUS = """
-- An accepted event stays here until it succeeded or was given up: what a restart goes on with.
CREATE TABLE event (
    id INTEGER PRIMARY KEY, function INTEGER NOT NULL REFERENCES function ON DELETE CASCADE, qualifier TEXT,
    request_id TEXT NOT NULL, payload BLOB NOT NULL, client_context TEXT, accepted_at REAL NOT NULL,
    due_at REAL NOT NULL, attempts INTEGER NOT NULL, throttles INTEGER NOT NULL, skipped REAL NOT NULL
);
CREATE INDEX event_function ON event (function);
-- Outlives its function, as on AWS.
CREATE TABLE mapping (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, account TEXT NOT NULL, region TEXT NOT NULL,
    source TEXT NOT NULL, function TEXT NOT NULL, settings BLOB NOT NULL, tags BLOB NOT NULL, enabled INTEGER NOT NULL,
    stage TEXT NOT NULL, settles_at REAL NOT NULL, modified REAL NOT NULL, result TEXT NOT NULL
);
CREATE TABLE checkpoint (
    mapping TEXT NOT NULL REFERENCES mapping (uuid) ON DELETE CASCADE, shard TEXT NOT NULL, sequence TEXT NOT NULL,
    PRIMARY KEY (mapping, shard)
) WITHOUT ROWID;
"""
# The version that stays ready until the one its alias goes to is.
_PROVISIONED_MOVING = "ALTER TABLE provisioned ADD COLUMN before INTEGER;"
_FAILURES = "ALTER TABLE version ADD COLUMN failure BLOB;"

_MANAGED = """
CREATE TABLE capacity_provider (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, settings BLOB NOT NULL,
    tags BLOB NOT NULL, stage TEXT NOT NULL, settles_at REAL NOT NULL,
    UNIQUE (account, region, name)
);
ALTER TABLE version ADD COLUMN provider TEXT;
CREATE INDEX version_provider ON version (provider) WHERE provider IS NOT NULL;
CREATE INDEX version_deleting ON version (settles_at) WHERE stage = 'deleting';
CREATE TABLE scaling (
    function INTEGER NOT NULL, number INTEGER NOT NULL, wanted BLOB NOT NULL, before BLOB NOT NULL,
    settles_at REAL NOT NULL,
    PRIMARY KEY (function, number),
    FOREIGN KEY (function, number) REFERENCES version ON DELETE CASCADE
) WITHOUT ROWID;
""" + "".join(
    f"""
CREATE TRIGGER {table}_of_latest_published AFTER DELETE ON version WHEN OLD.number = {(1 << 63) - 1} BEGIN
    DELETE FROM {table} WHERE function = OLD.function AND qualifier = '$LATEST.PUBLISHED';
END;
"""
    for table in ("policy", "event_invoke", "runtime_management")
)

SCHEMAS: Final = (
    _FUNCTIONS,
    _POLICIES,
    _CONTROLS,
    _PROVISIONED,
    _URLS,
    _LAYERS + _STORAGE,
    _PROVISIONED_IN_VAIN + _RUNTIME_MANAGEMENT,
    _ASYNCHRONOUS,
    _PROVISIONED_MOVING,
    _FAILURES,
    _MANAGED,
)
"""The n-th takes a database from user_version n to n + 1: a folder from before keeps what it holds. Append only."""
