//! What a policy's expression says, read from the text that Postgres deparses.
//!
//! Pure: owns cutting such a text at its top-level OR and AND, and telling which expressions let every
//! row through. Text, because evaluating the tree would call functions of whoever wrote the policy
//! with the rights of whoever validates. Must never claim that an expression is always true when it
//! may be false, nor follow one deeper or longer than `is_readable` says: anybody may call what calls it.

/// Nesting, in brackets and in tests of tests, beyond which nothing is followed.
const DEEPEST: usize = 200;
/// Bytes beyond which nothing is read: each level reads what is inside of it anew.
const LONGEST: usize = 100_000;

/// Whether it is short and flat enough to be followed. What is not proves nothing.
pub fn is_readable(expression: &str) -> bool {
    expression.len() <= LONGEST && depths(expression).all(|(_, depth)| depth <= DEEPEST)
}

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
    is_readable(expression) && is_true(expression, tenant_column, DEEPEST)
}

fn is_true(expression: &str, tenant_column: Option<&str>, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else {
        return false;
    };
    let any = disjuncts(expression);
    if any.len() > 1 {
        return any.iter().any(|part| is_true(part, tenant_column, levels));
    }
    let all = conjuncts(expression);
    if all.len() > 1 {
        return all.iter().all(|part| is_true(part, tenant_column, levels));
    }
    is_true_atom(without_parentheses(expression), tenant_column, levels)
}

fn is_true_atom(atom: &str, tenant_column: Option<&str>, levels: usize) -> bool {
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
    if let Some(tested) = [" IS TRUE", " IS NOT FALSE"]
        .iter()
        .find_map(|test| atom.strip_suffix(test))
    {
        return is_true(tested, tenant_column, levels);
    }
    if let Some(arguments) = arguments_of(atom, "COALESCE") {
        return arguments
            .iter()
            .all(|argument| is_true(argument, tenant_column, levels));
    }
    atom == "true"
        || [" = ", " >= ", " <= "]
            .iter()
            .any(|operator| sides(atom, operator).is_some_and(|(left, right)| left == right))
}

/// The arguments of a call of that built-in function, where the text is one and nothing else.
pub fn arguments_of<'a>(text: &'a str, function: &str) -> Option<Vec<&'a str>> {
    let arguments = text.strip_prefix(function)?;
    let inner = without_parentheses(arguments);
    (arguments.starts_with('(') && inner.len() < arguments.len()).then(|| operands(inner, ", "))
}

/// What stands at both sides of an operator that occurs once.
pub fn sides<'a>(text: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    match operands(text, operator)[..] {
        [left, right] => Some((left, right)),
        _ => None,
    }
}

/// What an operator outside of brackets and quotes stands between.
pub fn operands<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let expression = without_parentheses(expression);
    let mut parts = Vec::new();
    let mut start = 0;
    for (position, depth) in depths(expression) {
        if depth == 0 && position >= start && expression[position..].starts_with(operator) {
            parts.push(without_parentheses(&expression[start..position]));
            start = position + operator.len();
        }
    }
    parts.push(without_parentheses(&expression[start..]));
    parts
}

/// The expression without spaces and parentheses around it.
pub fn without_parentheses(expression: &str) -> &str {
    let mut inner = expression.trim();
    for _ in 0..pairs_around(inner) {
        inner = inner[1..inner.len() - 1].trim();
    }
    inner
}

/// How many pairs of parentheses are around all of it: those that open before anything else, close after
/// anything else, and not between.
fn pairs_around(expression: &str) -> usize {
    if !expression.starts_with('(') || !expression.ends_with(')') {
        return 0;
    }
    let mut opening = true;
    // The fewest that are open between; those that are before the parentheses that close at the end.
    let (mut fewest, mut before_end, mut closing) = (usize::MAX, 0, 0_usize);
    let mut before = 0;
    for (position, depth) in depths(expression) {
        match expression[position..].chars().next() {
            Some('(') if opening => {}
            Some(character) if character.is_whitespace() => {}
            Some(')') => {
                if closing == 0 {
                    before_end = before;
                    fewest = fewest.min(before);
                }
                opening = false;
                closing += 1;
            }
            _ => {
                opening = false;
                fewest = fewest.min(before).min(depth);
                closing = 0;
            }
        }
        before = depth;
    }
    if closing == before_end { fewest } else { 0 }
}

/// The characters outside of quotes, each with how many brackets are open after it.
pub fn depths(expression: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut depth = 0_usize;
    let (mut quote, mut escapes, mut escaped) = (None, false, false);
    let mut before = ' ';
    expression
        .char_indices()
        .filter_map(move |(position, character)| {
            let last = core::mem::replace(&mut before, character);
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
                            escapes = character == '\'' && last == 'E';
                        }
                        '(' | '[' => depth += 1,
                        ')' | ']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    return Some((position, depth));
                }
            }
            None
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::bounds::bounds_tenant;
    use crate::validate::complaints::{asks_for_others, open_without_context};

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
            "COALESCE((tenant_id = tenant_id), true)",
            "((tenant_id = tenant_id) IS NOT FALSE)",
            "(tenant_id >= tenant_id)",
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
            "COALESCE((tenant_id = current_tenant_id()), true)",
            "((tenant_id = current_tenant_id()) IS NOT FALSE)",
        ] {
            assert!(
                !is_always_true(expression, Some("tenant_id")),
                "{expression}"
            );
        }
    }

    #[test]
    fn pairs_are_taken_off_together() {
        for (expression, inner) in [
            ("((a))", "a"),
            ("( ( (a) ) )", "a"),
            ("((a) + (b))", "(a) + (b)"),
            ("(((a) + (b)))", "(a) + (b)"),
            ("((a)) + ((b))", "((a)) + ((b))"),
            ("(((a)) + ((b)))", "((a)) + ((b))"),
            ("((f(a)))", "f(a)"),
            ("(f((a)))", "f((a))"),
            ("((x[1]))", "x[1]"),
            ("('(')", "'('"),
            ("((a = ')'))", "a = ')'"),
            ("((a) OR 'x)", "((a) OR 'x)"),
            ("(\"(\")", "\"(\""),
            ("()", ""),
            ("(())", ""),
            ("(a))", "(a))"),
            ("(", "("),
            ("", ""),
        ] {
            assert_eq!(without_parentheses(expression), inner, "{expression}");
        }
    }

    /// On a stack as small as one of a backend's that is nearly used up.
    fn with_little_stack(test: fn()) {
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        thread
            .spawn(test)
            .expect("a thread")
            .join()
            .expect("passes");
    }

    #[test]
    fn what_is_deep_proves_nothing() {
        with_little_stack(|| {
            let nested = |levels: usize, open: &str, inner: &str, close: &str| {
                format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
            };
            let column = Some("tenant_id");
            for (open, close) in [
                ("COALESCE(", ")"),
                ("(", ")"),
                ("(", " IS TRUE)"),
                ("", " IS TRUE"),
                ("(a AND (b OR ", "))"),
                ("(true OR (false AND ", "))"),
            ] {
                for levels in [50_000, 12_000] {
                    let deep = nested(levels, open, "(1 = 1)", close);
                    assert!(!is_always_true(&deep, column), "{open}");
                    assert!(!bounds_tenant(&deep, "tenant_id"), "{open}");
                    if deep.len() > LONGEST || open.contains('(') {
                        assert!(open_without_context(&deep, column).is_some(), "{open}");
                        assert!(asks_for_others(&deep, "tenant_id").is_some(), "{open}");
                    }
                }
            }
            // As deep as anything is followed.
            for (open, close) in [("COALESCE(", ")"), ("(", ")")] {
                assert!(is_always_true(&nested(100, open, "(1 = 1)", close), column));
                let deep = nested(100, open, "(tenant_id = x.y())", close);
                assert!(bounds_tenant(&deep, "tenant_id"), "{open}");
            }
            // Each operand is looked at once: twice at each level would never end.
            let deep = nested(60, "(a AND (b OR ", "(tenant_id <> x)", "))");
            assert_eq!(asks_for_others(&deep, "tenant_id"), Some("tenant_id <> x"));
        });
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
