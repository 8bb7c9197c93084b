-- Keys: rows that point at another tenant's. The function checks by itself whose tables the caller may
-- look into.

CREATE FUNCTION tenancy.cross_tenant_links(
    OUT child regclass, OUT constraint_name text, OUT parent regclass, OUT rows bigint, OUT query text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cross_tenant_links_wrapper';
COMMENT ON FUNCTION tenancy.cross_tenant_links() IS
'foreign keys between registered tables along which rows point at another tenant''s: how many, and the query that lists them, for a role that row security does not bind. Reads every such table once, as its owner and past row security; rows is null where the caller administers one end only, or both ends are large and of different owners. 42501 where the caller administers none';
