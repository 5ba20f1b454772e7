//! Templates that mean harm, and text that means nothing.

use proptest::prelude::*;

use super::*;

/// Each takes no more than a moment and leaves the process as it was. The limits are a part of the real ones, as a
/// debug build is that much slower.
#[test]
fn hostile_templates_meet_a_limit() {
    let real = Limits::default();
    let limits = Limits {
        steps: real.steps / 20,
        heap_bytes: real.heap_bytes / 8,
        output_bytes: real.output_bytes / 8,
        ..real
    };
    let repeat = |open: &str, n: usize, middle: &str, close: &str| {
        open.repeat(n) + middle + &close.repeat(n)
    };
    let in_loop = |set: &str| {
        format!(
            "{{% set ns = namespace(x='ab', y=[1]) %}}{{% for i in range(60) %}}{{% set {set} %}}{{% endfor %}}"
        )
    };
    let cases: Vec<(String, Limit)> = vec![
        ("x".repeat(300_000), Limit::Source),
        (repeat("{% if 1 %}", 10_000, "", "{% endif %}"), Limit::Nesting),
        (repeat("{{ ((", 1, &repeat("(", 10_000, "1", ")"), ")) }}"), Limit::Nesting),
        (format!("{{{{ {}1 }}}}", "-".repeat(200_000)), Limit::Nesting),
        (format!("{{{{ {}1 }}}}", "not ".repeat(50_000)), Limit::Nesting),
        (format!("{{{{ 1 {} }}}}", "if 1 else 1 ".repeat(20_000)), Limit::Nesting),
        (format!("{{{{ 1 {} }}}}", "if 1 ".repeat(40_000)), Limit::Nesting),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}".to_owned(), Limit::Recursion),
        ("{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}".to_owned(), Limit::Recursion),
        (format!("{{{{ 'a'|map({}'upper')|list }}}}", "'map',".repeat(2000)), Limit::Heap),
        ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}".to_owned(), Limit::Steps),
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(), Limit::Steps),
        (in_loop("ns.x = ns.x + ns.x"), Limit::Heap),
        (in_loop("ns.x = ns.x ~ ns.x"), Limit::Heap),
        (in_loop("ns.x = ns.x|replace('a', 'aa')"), Limit::Steps),
        (in_loop("ns.x = ns.x.join(ns.x)"), Limit::Heap),
        (in_loop("ns.y = ns.y + ns.y"), Limit::Heap),
        (in_loop("ns.y = ns.y * 1000"), Limit::Heap),
        ("{% macro f(s) %}{{ f(s + s) }}{% endmacro %}{{ f('ab') }}".to_owned(), Limit::Heap),
        (format!("{{% set x = 'ab' %}}{}", "{% set x %}{{x}}{{x}}{% endset %}".repeat(60)), Limit::Output),
        ("{{ 'x' * 10**15 }}".to_owned(), Limit::Steps),
        ("{{ 'x'.center(10**15) }}".to_owned(), Limit::Steps),
        ("{{ 'x'|indent(10**15, true) }}".to_owned(), Limit::Steps),
        ("{% set x = 'x' * 3000000 %}{% for i in range(100) %}{{ x }}{% endfor %}".to_owned(), Limit::Output),
        (format!("{}{{{{ ns.y }}}}", in_loop("ns.y = [ns.y, ns.y]")), Limit::Steps),
        (format!("{}{{{{ ns.y|tojson }}}}", in_loop("ns.y = [ns.y, ns.y]")), Limit::Steps),
        (in_loop("ns.y = [[[[ns.y]]]]"), Limit::ValueDepth),
    ];
    for (source, limit) in cases {
        let start: String = source.chars().take(80).collect();
        let error = render_within(&source, limits).expect_err(&start);
        assert_eq!(error.fault, Fault::Limit(limit), "{start}");
    }
}

#[test]
fn nothing_can_hold_itself() {
    check_fault(&[
        (
            "{% set ns = namespace() %}{% set ns.x = ns %}",
            "cannot be kept",
        ),
        (
            "{% set ns = namespace() %}{% set ns.x = [ns] %}",
            "cannot be kept",
        ),
        (
            "{% set ns = namespace() %}{% macro m() %}{% endmacro %}{% set ns.x = m %}",
            "cannot be kept",
        ),
        (
            "{% for x in l %}{% set y = {'loop': loop} %}{% endfor %}",
            "cannot be kept",
        ),
        ("{{ range(10**9) }}", "more than 100000"),
        ("{{ '%999999999d' % 1 }}", "more than 1000"),
    ]);
}

/// Chains have no depth, so they may be as long as the source.
#[test]
fn long_chains_are_no_nests() {
    let chain = |part: &str| render(&format!("{{{{ 1{} }}}}", part.repeat(30_000)));
    assert_eq!(chain("+1"), Ok("30001".to_owned()));
    assert_eq!(chain("|abs"), Ok("1".to_owned()));
    assert_eq!(chain(" and 1"), Ok("1".to_owned()));
    let branches = format!(
        "{{% if f %}}{}{{% else %}}z{{% endif %}}",
        "{% elif f %}".repeat(15_000)
    );
    assert_eq!(render(&branches), Ok("z".to_owned()));
}

/// Fragments that fit together now and then.
const FRAGMENTS: [&str; 64] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    "+",
    " ",
    "\n",
    "if ",
    "elif ",
    "else",
    "endif",
    "for ",
    "endfor",
    "in ",
    "set ",
    "endset",
    "macro ",
    "endmacro",
    "call",
    "endcall",
    "x",
    "l",
    "d",
    "s",
    "ns",
    "loop",
    "namespace(",
    "range(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ".",
    "|",
    "=",
    "==",
    "~",
    "*",
    "**",
    "//",
    "%",
    "not ",
    "and ",
    "is ",
    "'a'",
    "\"",
    "\\",
    "1",
    "2.5",
    "-1",
    "tojson",
    "join",
    "map(",
    "sort",
    "append(",
    "é",
    "{% raw %}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_rendered_or_refused(parts in prop::collection::vec(0..FRAGMENTS.len(), 0..40)) {
        let source: String = parts.into_iter().map(|part| FRAGMENTS[part]).collect();
        let limits = Limits { steps: 100_000, heap_bytes: 1 << 20, ..Limits::default() };
        let _ = render_within(&source, limits);
    }

    #[test]
    fn any_expression_is_evaluated_or_refused(parts in prop::collection::vec(0..FRAGMENTS.len(), 1..12)) {
        let source: String = parts.into_iter().map(|part| FRAGMENTS[part]).collect();
        let limits = Limits { steps: 100_000, heap_bytes: 1 << 20, ..Limits::default() };
        let _ = render_within(&format!("{{{{ l{source} }}}}"), limits);
    }
}
