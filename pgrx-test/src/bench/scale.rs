//! How much of everything: sizes of tables and numbers of repetitions.

/// Sizes and repetitions of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rows of each table that is filtered or looked up in.
    pub rows: u64,
    /// Rows of the table that says which tenant a user belongs to.
    pub users: u64,
    /// Tenants, except where their number is what varies.
    pub tenants: u64,
    /// Turns of each contender.
    pub rounds: usize,
    /// Turns of a contender that is so slow that few must do.
    pub slow_rounds: usize,
    /// Turns of each pgbench run.
    pub pgbench_rounds: usize,
    /// Transactions of one pgbench run.
    pub transactions: u32,
    /// Calls of a function in one turn.
    pub calls: u64,
    /// Users that are resolved in one turn, each for the first time.
    pub resolutions: u64,
    /// Membership changes in one turn.
    pub updates: u32,
    /// Changes after which every connected backend is asked.
    pub broadcasts: usize,
    /// Users whose document is made in one turn.
    pub documents: u64,
    /// Numbers of tenants to compare.
    pub tenant_counts: &'static [u64],
    /// Tables of the schemas that are protected as a whole.
    pub schema_tables: &'static [u64],
    /// How often each is.
    pub schema_rounds: usize,
}

impl Scale {
    pub fn full() -> Scale {
        Scale {
            rows: 1_000_000,
            users: 1_000_000,
            tenants: 100,
            rounds: 21,
            slow_rounds: 3,
            pgbench_rounds: 11,
            transactions: 8_000,
            calls: 5_000_000,
            resolutions: 20_000,
            updates: 300,
            broadcasts: 30,
            documents: 2_000,
            tenant_counts: &[10, 1_000, 100_000, 1_000_000],
            schema_tables: &[500, 1_000],
            schema_rounds: 3,
        }
    }

    pub fn quick() -> Scale {
        Scale {
            rows: 20_000,
            users: 20_000,
            tenants: 100,
            rounds: 3,
            slow_rounds: 1,
            pgbench_rounds: 2,
            transactions: 200,
            calls: 20_000,
            resolutions: 2_000,
            updates: 20,
            broadcasts: 3,
            documents: 200,
            tenant_counts: &[10, 1_000],
            schema_tables: &[20, 40],
            schema_rounds: 1,
        }
    }
}
