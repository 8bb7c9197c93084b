//! NOT NULL, DEFAULT and the leading index: what stays when enforcement is taken back for a while.
//!
//! Owns the comparison with what is there, so that protecting twice plans nothing. Must never plan
//! what would read a large table in place: that goes to the script.

use super::inspect::Facts;
use super::model::TenantFunctions;
use super::names;
use super::plan::{Plan, Statement, Wish};
use super::render::{self, Target};
use super::store::{Found, Made};

/// NOT NULL, DEFAULT and index: what stays when enforcement is taken back for a while.
pub fn ground(wish: &Wish<'_>, made: &mut Made, found: &mut Found, plan: &mut Plan) {
    let (facts, target) = (wish.facts, wish.target());
    let Some(column) = &facts.column else { return };

    if !column.not_null && !wish.follows_parent {
        made.not_null = true;
        if wish.is_large() {
            plan.script.extend(render::set_not_null_script(&target));
        } else {
            plan.now
                .push(Statement::owner(facts.oid, render::set_not_null(&target)));
        }
    }

    if wish.rule.options.set_default && !wish.follows_parent {
        let stands = made.default.is_some() && made.default == column.default;
        if !stands {
            found.default = column.default.clone();
            let expression = wish.tenant.default_expression(wish.extension_schema);
            plan.now.push(Statement::owner(
                facts.oid,
                render::set_default(&target, Some(&expression)),
            ));
            // Read back once it is set, as the server shows it.
            made.default = Some(expression);
        }
    } else if !wish.rule.options.set_default {
        restore_default(facts, &target, made, found, plan);
    }

    // A unique key that was made for another table's foreign key goes when that key does, and one that
    // was rewritten loses the tenant again.
    let leads = facts
        .leading_indexes
        .iter()
        .any(|index| !(made.unique_keys.contains(index) || made.rewritten_keys.contains(index)));
    if !leads && !facts.is_partition_of_protected(wish.follows_parent) {
        let mut name = names::index(&facts.name);
        if made.index.as_ref() != Some(&name) && super::inspect::name_is_taken(&facts.schema, &name)
        {
            name = names::alternative(&name, &facts.schema);
        }
        if wish.is_large() {
            if facts.kind == "p" {
                // Postgres builds no index concurrently on a partitioned table, but one that is made
                // there adopts those of the partitions instead of building them.
                script_of_leaves(facts, &target, made, plan);
                plan.script.push(render::create_index(&target, &name));
            } else {
                plan.script
                    .push(render::create_index_concurrently(&target, &name));
            }
        } else {
            plan.now.push(Statement::index(
                facts.oid,
                render::create_index(&target, &name),
            ));
        }
        made.index = Some(name);
    }
}

fn script_of_leaves(facts: &Facts, target: &Target, made: &mut Made, plan: &mut Plan) {
    for leaf in &facts.leaves {
        let ours = |name: &String| {
            made.partition_indexes
                .iter()
                .any(|(schema, index)| *schema == leaf.schema && index == name)
        };
        // A printed plan starts from what was there before.
        let leads = leaf
            .leading
            .iter()
            .any(|(name, attached)| !plan.as_found || !(*attached || ours(name)));
        if leads {
            continue;
        }
        let mut name = names::index(&leaf.name);
        if !ours(&name) && super::inspect::name_is_taken(&leaf.schema, &name) {
            name = names::alternative(&name, &leaf.schema);
        }
        let there = Target {
            schema: leaf.schema.clone(),
            table: leaf.name.clone(),
            column: target.column.clone(),
        };
        plan.script
            .push(render::create_index_concurrently(&there, &name));
        if !ours(&name) {
            made.partition_indexes.push((leaf.schema.clone(), name));
        }
    }
}

/// Puts back the default that was found, unless somebody has changed ours since.
pub fn restore_default(
    facts: &Facts,
    target: &Target,
    made: &mut Made,
    found: &mut Found,
    plan: &mut Plan,
) {
    let Some(ours) = made.default.take() else {
        return;
    };
    let now = facts
        .column
        .as_ref()
        .and_then(|column| column.default.as_ref());
    if now == Some(&ours) {
        let sql = render::set_default(target, found.default.as_deref());
        plan.now.push(Statement::owner(facts.oid, sql));
    }
    found.default = None;
}
