//! What a policy's expression says, read from the text that Postgres deparses.
//!
//! Pure: owns cutting such a text at its top-level OR and AND, and telling which expressions let every
//! row through. Text, because evaluating the tree would call functions of whoever wrote the policy
//! with the rights of whoever validates. Must never claim that an expression is always true when it
//! may be false.

/// The operands of the outermost OR, without parentheses around them; the expression itself where
/// there is none.
pub fn disjuncts(expression: &str) -> Vec<&str> {
    operands(expression, " OR ")
}

/// The operands of the outermost AND of an expression without an OR around it.
pub fn conjuncts(expression: &str) -> Vec<&str> {
    operands(expression, " AND ")
}

/// Whether the expression is true for every row that has a tenant.
pub fn is_always_true(expression: &str, tenant_column: Option<&str>) -> bool {
    let any = disjuncts(expression);
    if any.len() > 1 {
        return any.iter().any(|part| is_always_true(part, tenant_column));
    }
    let all = conjuncts(expression);
    if all.len() > 1 {
        return all.iter().all(|part| is_always_true(part, tenant_column));
    }
    is_true_atom(without_parentheses(expression), tenant_column)
}

fn is_true_atom(atom: &str, tenant_column: Option<&str>) -> bool {
    if let Some(negated) = atom.strip_prefix("NOT ") {
        let negated = without_parentheses(negated);
        return negated == "false"
            || sides(negated, " IS DISTINCT FROM ").is_some_and(|(left, right)| left == right);
    }
    if let Some(tested) = atom.strip_suffix(" IS NOT NULL") {
        let tested = without_parentheses(tested);
        return tenant_column
            .is_some_and(|column| tested == column || tested.trim_matches('"') == column);
    }
    atom == "true" || sides(atom, " = ").is_some_and(|(left, right)| left == right)
}

fn sides<'a>(atom: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    match operands(atom, operator)[..] {
        [left, right] => Some((left, right)),
        _ => None,
    }
}

/// What an operator outside of brackets and quotes stands between.
pub fn operands<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let expression = without_parentheses(expression);
    let mut parts = Vec::new();
    let (mut start, mut skip_until) = (0, 0);
    for (position, depth) in depths(expression) {
        if depth == 0 && position >= skip_until && expression[position..].starts_with(operator) {
            parts.push(without_parentheses(&expression[start..position]));
            start = position + operator.len();
            skip_until = start;
        }
    }
    parts.push(without_parentheses(&expression[start..]));
    parts
}

/// The expression without spaces and parentheses around it.
pub fn without_parentheses(expression: &str) -> &str {
    let mut inner = expression.trim();
    while inner.starts_with('(') && inner.ends_with(')') {
        // Open until the last character: the first parenthesis closes there and nowhere before.
        let spans = depths(inner)
            .into_iter()
            .all(|(position, depth)| depth > 0 || position + 1 == inner.len());
        if !spans {
            break;
        }
        inner = inner[1..inner.len() - 1].trim();
    }
    inner
}

/// The characters outside of quotes, each with how many brackets are open after it.
fn depths(expression: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let (mut quote, mut escapes, mut escaped) = (None, false, false);
    let mut before = ' ';
    for (position, character) in expression.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if escapes && character == '\\' => escaped = true,
            // A doubled quote closes and opens again.
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None => {
                match character {
                    '\'' | '"' => {
                        quote = Some(character);
                        escapes = character == '\'' && before == 'E';
                    }
                    '(' | '[' => depth += 1,
                    ')' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                found.push((position, depth));
            }
        }
        before = character;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_let_every_row_through() {
        for expression in [
            "true",
            "(true)",
            "((tenant_id = current_tenant_id()) OR true)",
            "(1 = 1)",
            "(tenant_id = tenant_id)",
            "(tenant_id IS NOT NULL)",
            "((a = 1) OR (tenant_id IS NOT NULL))",
            "(true AND (1 = 1))",
            "((deleted AND (a = 2)) OR ((b = b) AND true))",
            "(NOT false)",
            "(NOT (tenant_id IS DISTINCT FROM tenant_id))",
            "('x'::text = 'x'::text)",
        ] {
            assert!(
                is_always_true(expression, Some("tenant_id")),
                "{expression}"
            );
        }
        assert!(is_always_true("(\"Tenant\" IS NOT NULL)", Some("Tenant")));
    }

    #[test]
    fn expressions_that_may_be_false() {
        for expression in [
            "(tenant_id = current_tenant_id())",
            "((tenant_id = current_tenant_id()) AND (deleted OR true))",
            "(note = 'a OR true'::text)",
            "(note = 'it''s OR true'::text)",
            "(note = E'\\' OR true'::text)",
            "(\"a OR true\" = 1)",
            "(other IS NOT NULL)",
            "(NOT true)",
            "false",
            "(a = b)",
            "",
            "(tenant_id = ANY (ARRAY[x, true]))",
            "(a) OR (b",
        ] {
            assert!(
                !is_always_true(expression, Some("tenant_id")),
                "{expression}"
            );
        }
    }

    #[test]
    fn disjuncts_are_of_the_outermost_or() {
        assert_eq!(
            disjuncts("((a = 1) OR ((b OR c) AND d) OR is_admin())"),
            ["a = 1", "(b OR c) AND d", "is_admin()"]
        );
        assert_eq!(disjuncts("(a) AND (b)"), ["(a) AND (b)"]);
        assert_eq!(disjuncts("(é = 'ü OR')"), ["é = 'ü OR'"]);
    }
}
