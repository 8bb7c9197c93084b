//! The SQL of the validator: views that rules share, and the rules by topic.

use pgrx::prelude::*;

extension_sql_file!(
    "../../sql/80_validate.sql",
    name = "validate",
    requires = ["drift"]
);
extension_sql_file!(
    "../../sql/81_rules_policies.sql",
    name = "rules_policies",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/82_rules_functions.sql",
    name = "rules_functions",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/83_rules_keys.sql",
    name = "rules_keys",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/84_rules_ways_around.sql",
    name = "rules_ways_around",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/85_rules_grants.sql",
    name = "rules_grants",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/86_rules_roles.sql",
    name = "rules_roles",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/87_rules_server.sql",
    name = "rules_server",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/93_rules_data.sql",
    name = "rules_data",
    requires = ["rules_keys"]
);
