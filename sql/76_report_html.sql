-- The state of the rollout as a page.

CREATE FUNCTION tenancy.report_html(with_findings boolean DEFAULT true) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'report_html_wrapper';
COMMENT ON FUNCTION tenancy.report_html(boolean) IS
'one HTML document that needs nothing but itself: the board of tenancy.health(), tables with mode and readiness, denials over time, tenant to tenant, each denial with its query, and what tenancy.validate() finds, which may take seconds: with_findings => false leaves that and the board out. For superusers and members of a role named in pg_tenancy.admin_role. Errors: 42501, 22023';
