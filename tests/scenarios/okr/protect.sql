-- Says once where users and roles live, isolates every table, and makes the application's role.
SELECT tenancy.bind(
    membership => 'neon_auth.users_sync', membership_user => 'id',
    role_table => 'profiles', role_user => 'user_id');
SELECT * FROM tenancy.protect_schema('public', mode => 'enforce');
SELECT tenancy.create_app_role('stratixv2_app', '{public,neon_auth}', login => true);
