//! The SQL of the checks.

use pgrx::prelude::*;

extension_sql_file!(
    "../../sql/88_expected_columns.sql",
    name = "expected_columns",
    requires = ["validate"]
);
extension_sql_file!(
    "../../sql/89_migration_checks.sql",
    name = "migration_checks",
    requires = ["expected_columns"]
);
