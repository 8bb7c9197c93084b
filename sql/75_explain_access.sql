-- Why a row is there, or is not, for somebody. EXECUTE stays with PUBLIC, because owners ask about their
-- tables: the functions check by themselves that the caller owns the table.

CREATE FUNCTION tenancy.explain_access(
    "table" regclass,
    key text,
    command text DEFAULT 'select',
    user_id text DEFAULT NULL,
    tenant_id text DEFAULT NULL,
    role name DEFAULT NULL)
RETURNS TABLE (step integer, subject text, verdict text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'explain_access_by_text_wrapper';
COMMENT ON FUNCTION tenancy.explain_access(regclass, text, text, text, text, name) IS
'for the row with that primary key (a JSON object, or the value of the only column), what each policy says to a command for a user and a tenant, or for the context of the session; the last line is the verdict: allowed, hidden, refused or error. In permissive and shadow mode, what enforcement would say. Prints no value of the row but its key and its tenant, keeps nothing, takes ACCESS SHARE on the table; some milliseconds. For the owner of the table and superusers. Errors: 42501, 42P01, 42704, 42809, 22023, 22P02, P0002, 21000, 55000';

CREATE FUNCTION tenancy.explain_access(
    "table" regclass,
    key jsonb,
    command text DEFAULT 'select',
    user_id text DEFAULT NULL,
    tenant_id text DEFAULT NULL,
    role name DEFAULT NULL)
RETURNS TABLE (step integer, subject text, verdict text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'explain_access_by_json_wrapper';
COMMENT ON FUNCTION tenancy.explain_access(regclass, jsonb, text, text, text, name) IS
'the same for a key given as jsonb';
