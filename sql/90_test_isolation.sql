-- One tenant attacks another. EXECUTE stays with PUBLIC: the functions check by themselves that the caller
-- may take the role and administers every table.

CREATE FUNCTION tenancy.test_isolation(
    role name,
    tenant text DEFAULT NULL,
    other text DEFAULT NULL,
    volatile_functions boolean DEFAULT false)
RETURNS TABLE (relation text, attack text, result text, detail text, sqlstate text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'test_isolation_wrapper';
COMMENT ON FUNCTION tenancy.test_isolation(name, text, text, boolean) IS
'attacks the rows of one tenant as a user of another with the rights of the role: every command on every protected table, moves, links, and what views and functions show; rolls everything back. result: refused, nothing, LEAK, or not attacked, which is no pass unless it can never be tried (a call, a foreign table, another role) and tenancy.waive(''not-attacked'', ''role: relation: attack'', ..) accepted it. Two tenants are found unless they are named. Locks rows only; reads the rows of the tenant that is attacked several times. For superusers, and administrators of all tables who may SET ROLE to it. Errors: 22004, 42704, 42501, 22023, 22P02, and 55000 where row security does not bind the role or there is nothing to attack';

CREATE FUNCTION tenancy.assert_isolation(
    role name,
    tenant text DEFAULT NULL,
    other text DEFAULT NULL,
    volatile_functions boolean DEFAULT false)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'assert_isolation_wrapper';
COMMENT ON FUNCTION tenancy.assert_isolation(name, text, text, boolean) IS
'raises 55000 unless tenancy.test_isolation() attacked everything that was not waived, and nothing leaked; the DETAIL names what did. Errors: those of tenancy.test_isolation()';

CREATE FUNCTION tenancy.test_isolation_tap(
    role name,
    tenant text DEFAULT NULL,
    other text DEFAULT NULL,
    volatile_functions boolean DEFAULT false)
RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'test_isolation_tap_wrapper';
COMMENT ON FUNCTION tenancy.test_isolation_tap(name, text, text, boolean) IS
'tenancy.test_isolation() as TAP, for test harnesses: a line for each attack, not ok where it leaked or could not be tried, a SKIP where that was accepted. Errors: those of tenancy.test_isolation()';
