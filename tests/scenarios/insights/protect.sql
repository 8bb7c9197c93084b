-- Two roles act: the application, and a service that opens and closes accounts.
SELECT tenancy.create_app_role('insights_app', '{public}', login => true);
SELECT tenancy.create_app_role('insights_accounts', '{public}', login => true);
-- The application says which tenant is asking; the tenant has to exist and be active.
SELECT tenancy.bind(
    tenant_type => 'text', tenant_setting => 'app.current_tenant_id',
    tenants => 'tenants', tenants_active => 'is_active', identity_writers => '{insights_accounts}');
-- Keys between the tables carry the tenant.
SELECT protected.*
FROM unnest('{tenants,connectors,tasks,module_insights,analytics_snapshots}'::regclass[]) WITH ORDINALITY AS t (relation, n),
     tenancy.protect_table(t.relation, mode => 'enforce',
         tenant_column => CASE WHEN t.relation = 'tenants'::regclass THEN 'id' ELSE 'tenant_id' END,
         options => '{"foreign_keys": "replace"}') AS protected
ORDER BY n;
