-- Drift: whether protected tables still are what was registered, and mending what is not.

CREATE FUNCTION tenancy.drift()
RETURNS TABLE (relation regclass, table_name text, code text, detail text, remediation text)
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'drift_of_all_wrapper';
COMMENT ON FUNCTION tenancy.drift() IS
'in what the catalog differs from the registrations of all tables, and tables of tenancy.auto_protected that are not protected; no row where all agrees. Opens a table only where something is not as protecting left it, and never waits for a lock: code locked says that another session holds the table exclusively. A few hundred microseconds a table';

CREATE FUNCTION tenancy.repair("table" regclass DEFAULT NULL, dry_run boolean DEFAULT false)
RETURNS TABLE (relation regclass, table_name text, statement text, result text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'repair_wrapper';
COMMENT ON FUNCTION tenancy.repair(regclass, boolean) IS
'mends what tenancy.drift() finds, for one table or for all: a row a statement, and one for each thing that is left to people, with the statement that would mend it. Objects of the user''s own are never dropped. With dry_run nothing is changed. For all tables each is a subtransaction, and a failure is a row. Locks like tenancy.protect_table(). Errors: 42501, 42704, and those of tenancy.protect_table()';
