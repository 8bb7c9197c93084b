-- Who is in which tenant. u1 is an admin of 1, u2 a member of 2, u3 of both.
CREATE SCHEMA ident AUTHORIZATION :owner;
CREATE TABLE ident.members (user_id text, tenant_id int, role text, PRIMARY KEY (user_id, tenant_id));
ALTER TABLE ident.members OWNER TO :owner;
INSERT INTO ident.members VALUES ('u1', 1, 'admin'), ('u2', 2, 'member'), ('u3', 1, 'member'), ('u3', 2, 'member');
SELECT tenancy.bind(tenant_type => 'integer', membership => 'ident.members', membership_role => 'role',
    tenant_setting => 'app.tenant', platform_tenant => '9');
