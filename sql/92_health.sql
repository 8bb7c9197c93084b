-- How tenancy is, as a board of components.

CREATE FUNCTION tenancy.health() RETURNS TABLE (component text, grade text, reason text, look_at text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET jit = off SET enable_nestloop = off
AS 'MODULE_PATHNAME', 'health_wrapper';
COMMENT ON FUNCTION tenancy.health() IS
'context, roles, policies, coverage, schema, rollout, data and server, each with a grade (error, warn, unknown, ok), the worst first, why, and the call that shows more. Findings of level info and waived ones lower no grade; what could not be looked at is unknown. Reads only, no rows of tables, with the rights of the caller. Costs a tenancy.validate()';
