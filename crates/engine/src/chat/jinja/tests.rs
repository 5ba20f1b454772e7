//! What the interpreter is held to. The expected texts of the tables are what jinja2 3.1.6 writes.

mod hostile;

use super::*;

const VARIABLES: &str = r#"{"n": null, "t": true, "f": false, "i": 7, "x": 2.5, "s": "Hello, Wörld", "e": "",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "d": {"b": 1, "A": [1, 2.0, "x'y"], "c": {"z": null}},
    "nested": [{"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "Y"}}, {"a": 1, "b": {"c": "z"}}],
    "q": "it's \"q\"\n\t\\", "uni": "naïve 😀 \u200b\u00a0", "html": "<a href=\"x\">&'</a>", "empty": [],
    "fl": [0.1, 1e16, 1e-5, 100.0, -0.0, 1.5e300, 123456.789]}"#;

const NOW: Moment = Moment {
    unix_s: 1_722_515_696, // 2024-08-01T12:34:56Z
    utc_offset_s: 0,
};

fn render_within(source: &str, limits: Limits) -> Result<String, Error> {
    let variables: serde_json::Map<_, _> = serde_json::from_str(VARIABLES).expect("valid JSON");
    let context: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    // Test threads have a smaller stack than the limit on recursion is made for.
    let work = || Program::parse(source, limits)?.render(&context, &|| NOW);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn_scoped(scope, work);
        thread.expect("a thread").join().expect("no panic")
    })
}

fn render(source: &str) -> Result<String, Error> {
    render_within(source, Limits::default())
}

fn check(cases: &[(&str, &str)]) {
    for (source, expect) in cases {
        assert_eq!(render(source).as_deref(), Ok(*expect), "{source}");
    }
}

fn check_fault(cases: &[(&str, &str)]) {
    for (source, part) in cases {
        let error = render(source).expect_err(source);
        assert!(
            format!("{:?}", error.fault).contains(part),
            "{source}: {error:?}"
        );
    }
}

#[test]
fn values_print_as_python_prints_them() {
    check(&[
        (
            "{{ n }} {{ t }} {{ i }} {{ x }} {{ undef }} {{ fl }}",
            "None True 7 2.5  [0.1, 1e+16, 1e-05, 100.0, -0.0, 1.5e+300, 123456.789]",
        ),
        (
            "{{ l }} {{ d }} {{ (1,) }} {{ (1, 'a') }} {{ () }}",
            "[3, 1, 2] {'b': 1, 'A': [1, 2.0, \"x'y\"], 'c': {'z': None}} (1,) (1, 'a') ()",
        ),
        (
            "{{ q }} {{ [q] }} {{ [uni] }}",
            "it's \"q\"\n\t\\ ['it\\'s \"q\"\\n\\t\\\\'] ['naïve 😀 \\u200b\\xa0']",
        ),
        (
            "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] ~ undef }}",
            "a1NoneTrue1.0[1]",
        ),
        (
            "{{ 1e16 }} {{ 0.1 + 0.2 }} {{ 10**20 }} {{ 1.5|string }}",
            "1e+16 0.30000000000000004 100000000000000000000 1.5",
        ),
    ]);
}

#[test]
fn arithmetic_and_comparison() {
    check(&[
        (
            "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 3 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}",
            "-4 2 -2 3.5 2.0 0.5 3.0 0.5",
        ),
        (
            "{{ 2**3**2 }} {{ -2**2 }} {{ 1 - -1 }} {{ 1_000 + 0x10 }} {{ 1 ~ 2 + 'x' }} {{ 'a' + 'b' * 3 }}",
            "64 4 2 1016 12x abbb",
        ),
        (
            "{{ [1] * 2 + [2] }} {{ (1, 2) + (3,) }} {{ 3 * 'ab' }} {{ 'a' * -1 }}|",
            "[1, 1, 2] (1, 2, 3) ababab |",
        ),
        (
            "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ true == 1 }} {{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }}",
            "True False True True True False True",
        ),
        (
            "{{ 'a' in 'abc' }} {{ 3 in l }} {{ 'b' in d }} {{ 'zz' not in d }} {{ x in undef }}",
            "True True True True False",
        ),
        (
            "{{ t and 5 }} {{ f or 'x' }} {{ e or n or 0 }} {{ not e and t }} {{ 1 if f }}|{{ 'a' if f else 'b' if f else 'c' }}",
            "5 x 0 True |c",
        ),
        (
            "{{ '%s-%d-%5.2f|%-5s|%05d|%x|%%' % ('a', 3, 2.5, 'b', 42, 255) }} {{ '%(a)s'|format(a=1) }} {{ '{1} {0} {x} {{}}'.format(1, 2, x=3) }}",
            "a-3- 2.50|b    |00042|ff|% 1 2 1 3 {}",
        ),
    ]);
}

#[test]
fn access_and_slices() {
    check(&[
        (
            "{{ d.b }} {{ d['b'] }} {{ d.zz }}|{{ d.get('zz') }} {{ d.get('zz', 5) }} {{ nested[0].b.c }} {{ nested.0.a }} {{ l[-1] }} {{ l[5] }}|",
            "1 1 |None 5 x 1 2 |",
        ),
        (
            "{{ s[0] }} {{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[::2] }} {{ s[-3:] }} {{ s[100:] }}|",
            "H d ell dlröW ,olleH Hlo öl rld |",
        ),
        (
            "{{ l[::-1] }} {{ l[1:] }} {{ l[5:1:-1] }} {{ l[2:0:-1] }} {{ s[10:2:-3] }} {{ l[-100:100] }} {{ l[:0] }}",
            "[2, 1, 3] [1, 2] [2] [2, 1] lWo [3, 1, 2] []",
        ),
        (
            "{{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.items is defined }} {{ d['items'] is defined }} {{ {'items': 3}['items'] }}",
            "[('b', 1), ('A', [1, 2.0, \"x'y\"]), ('c', {'z': None})] ['b', 'A', 'c'] [1, [1, 2.0, \"x'y\"], {'z': None}] True True 3",
        ),
        (
            "{{ n.x }}|{{ n.x is defined }} {{ s.nope is defined }} {{ range(5, 0, -2)|list }} {{ dict({'x': 1}, y=2) }} {{ {'a': 1, 'a': 2} }}",
            "|False False [5, 3, 1] {'x': 1, 'y': 2} {'a': 2}",
        ),
    ]);
}

#[test]
fn tests_of_values() {
    check(&[
        (
            "{{ d is mapping }} {{ l is mapping }} {{ s is string }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ i is sequence }} {{ undef is sequence }}",
            "True False True True True True False True",
        ),
        (
            "{{ s is iterable }} {{ n is iterable }} {{ d is iterable }} {{ t is number }} {{ t is integer }} {{ x is float }} {{ t is boolean }} {{ n is none }} {{ undef is none }}",
            "True False True True False True True True False",
        ),
        (
            "{{ t is true }} {{ 1 is true }} {{ range is callable }} {{ i is odd }} {{ i is divisibleby 7 }} {{ i is gt 3 }} {{ 'a' is in 'abc' }} {{ 'abc' is lower }} {{ undef is not defined }}",
            "True False True True True True True True True",
        ),
    ]);
}

#[test]
fn filters_of_text() {
    check(&[
        (
            "{{ s|upper }} {{ s|lower }} {{ 'hello wORLD-foo (bar)'|title }} {{ 'aB'|capitalize }} {{ '  x '|trim }}|{{ 'xxhixx'|trim('x') }} {{ s|length }} {{ s|replace('l', 'L', 1) }} {{ s|reverse }}",
            "HELLO, WÖRLD hello, wörld Hello World-Foo (Bar) Ab x|hi 12 HeLlo, Wörld dlröW ,olleH",
        ),
        (
            "{{ 'a\nb\n\nc'|indent }}|{{ 'a\n\nb'|indent(2, true, blank=true) }}|{{ 'a\n'|indent }}|{{ 'a\nb'|indent('>>') }}",
            "a\n    b\n\n    c|  a\n  \n  b|a\n|a\n>>b",
        ),
        (
            "{{ html|e }} {{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'a b  c'|wordcount }} {{ 'xy'|center(5) }}|",
            "&lt;a href=&#34;x&#34;&gt;&amp;&#39;&lt;/a&gt; foo... foo ba... 3   xy |",
        ),
        (
            "{{ '42'|int }} {{ 'x'|int(5) }} {{ '0x1f'|int(0, 16) }} {{ '3.9'|int }} {{ 'x'|float }} {{ -5|abs }} {{ 2.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 5|round }}",
            "42 5 31 3 0.0 5 2.0 2.57 3.0 5",
        ),
        (
            "{{ undef|default('D') }} {{ e|default('D', true) }} {{ n|default('D') }} {{ n|string }} {{ 5|replace('5', '6') }}",
            "D D None None 6",
        ),
    ]);
}

#[test]
fn filters_of_sequences() {
    check(&[
        (
            "{{ l|first }} {{ l|last }} {{ empty|first }}|{{ l|join(', ') }} {{ nested|join(',', attribute='a') }} {{ 'abc'|list }} {{ d|list }} {{ undef|list }}",
            "3 2 |3, 1, 2 1,2,1 ['a', 'b', 'c'] ['b', 'A', 'c'] []",
        ),
        (
            "{{ ls|map('upper')|list }} {{ nested|map(attribute='b.c')|join }} {{ nested|map(attribute='zz', default='D')|list }} {{ l|sum }} {{ l|min }} {{ ls|max }}",
            "['B', 'A', 'C', 'A'] xYz ['D', 'D', 'D'] 6 1 c",
        ),
        (
            "{{ l|sort }} {{ ls|sort }} {{ ls|sort(case_sensitive=true) }} {{ l|sort(reverse=true) }} {{ nested|sort(attribute='a,b.c', reverse=true)|map(attribute='b.c')|list }}",
            "[1, 2, 3] ['A', 'a', 'b', 'c'] ['A', 'a', 'b', 'c'] [3, 2, 1] ['Y', 'z', 'x']",
        ),
        (
            "{{ d|dictsort }} {{ d|dictsort(true) }} {{ {'x': 2, 'y': 1}|dictsort(by='value') }} {{ d|items|list }} {{ [1, 1, 2]|unique|list }}",
            "[('A', [1, 2.0, \"x'y\"]), ('b', 1), ('c', {'z': None})] [('A', [1, 2.0, \"x'y\"]), ('b', 1), ('c', {'z': None})] [('y', 1), ('x', 2)] [('b', 1), ('A', [1, 2.0, \"x'y\"]), ('c', {'z': None})] [1, 2]",
        ),
        (
            "{{ nested|selectattr('a', 'equalto', 1)|map(attribute='b.c')|list }} {{ nested|rejectattr('a', 'gt', 1)|list|length }} {{ l|select('odd')|list }} {{ [0, 1, '', 2]|select|list }} {{ ['x', none]|reject('none')|list }}",
            "['x', 'z'] 2 [3, 1] [1, 2] ['x']",
        ),
        (
            "{{ [1, 2, 3]|batch(2, 'x')|list }} {% for g, of in nested|groupby('a') %}{{ g }}:{{ of|length }};{% endfor %}",
            "[[1, 2], [3, 'x']] 1:2;2:1;",
        ),
    ]);
}

#[test]
fn methods() {
    check(&[
        (
            "{{ ' x '.strip() }}|{{ 'xxa'.lstrip('x') }} {{ 'axx'.rstrip('x') }} {{ s.startswith('He') }} {{ s.endswith(('x', 'd')) }} {{ 'abc'.removeprefix('a').removesuffix('c') }}",
            "x|a a True True b",
        ),
        (
            "{{ 'a,b,c'.split(',') }} {{ 'a b  c'.split() }} {{ 'a b  c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ ''.split() }} {{ ''.split(',') }}",
            "['a', 'b', 'c'] ['a', 'b', 'c'] ['a', 'b  c '] ['a,b', 'c'] ['a', 'b', 'c'] ['a\\n', 'b'] [] ['']",
        ),
        (
            "{{ s.find('l') }} {{ s.rfind('l') }} {{ s.find('zz') }} {{ s.count('l') }} {{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'ab'.replace('', '-') }} {{ ','.join(['a', 'b']) }}",
            "2 10 -1 3 ('a', '-', 'b-c') ('a-b', '-', 'c') -a-b- a,b",
        ),
        (
            "{{ '-7'.zfill(4) }} {{ 'x'.ljust(3) }}|{{ 'x'.rjust(3, '.') }} {{ 'abc'.center(6, '*') }} {{ 'aB'.swapcase() }} {{ 'it\\'s so'.title() }} {{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'A1'.isupper() }} {{ l.index(1) }} {{ l.count(1) }}",
            "-007 x  |..x *abc** Ab It'S So True False True 1 1",
        ),
    ]);
}

#[test]
fn json_as_python_dumps_it() {
    check(&[
        (
            "{{ d|tojson }} {{ html|tojson }} {{ q|tojson }} {{ fl|tojson }}",
            "{\"b\": 1, \"A\": [1, 2.0, \"x'y\"], \"c\": {\"z\": null}} \"<a href=\\\"x\\\">&'</a>\" \"it's \\\"q\\\"\\n\\t\\\\\" [0.1, 1e+16, 1e-05, 100.0, -0.0, 1.5e+300, 123456.789]",
        ),
        (
            "{{ d|tojson(indent=2) }}{{ [[], {}]|tojson(indent=4) }}{{ [1]|tojson(indent=0) }}",
            "{\n  \"b\": 1,\n  \"A\": [\n    1,\n    2.0,\n    \"x'y\"\n  ],\n  \"c\": {\n    \"z\": null\n  }\n}[\n    [],\n    {}\n][\n1\n]",
        ),
        (
            "{{ d|tojson(separators=(',', ':')) }} {{ d|tojson(sort_keys=true) }} {{ 'é😀\\x7f'|tojson(ensure_ascii=true) }} {{ {1: 2, true: 3, none: 4, 1.5: 5}|tojson }} {{ (1, [2])|tojson }}",
            "{\"b\":1,\"A\":[1,2.0,\"x'y\"],\"c\":{\"z\":null}} {\"A\": [1, 2.0, \"x'y\"], \"b\": 1, \"c\": {\"z\": null}} \"\\u00e9\\ud83d\\ude00\\u007f\" {\"1\": 3, \"null\": 4, \"1.5\": 5} [1, [2]]",
        ),
    ]);
}

#[test]
fn loops() {
    check(&[
        (
            "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.changed(x) }};{% endfor %}",
            "1032TrueFalse3a1True;2121FalseFalse3b32True;3210FalseTrue3a1True;",
        ),
        (
            "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for c in 'añ' %}{{ c }}.{% endfor %}",
            "b=1;A=[1, 2.0, \"x'y\"];c={'z': None};123a.ñ.",
        ),
        (
            "{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{% endfor %}{% for x in empty %}x{% else %}none{% endfor %}{% for x in undef %}x{% else %}undef{% endfor %}",
            "3222noneundef",
        ),
        (
            "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "0134",
        ),
    ]);
}

#[test]
fn scopes() {
    check(&[
        (
            "{% set y = 1 %}{% for x in l %}{% set y = y + x %}{{ y }},{% endfor %}{{ y }}{% if t %}{% set y = 9 %}{% endif %}{{ y }}",
            "4,2,3,19",
        ),
        (
            "{% set ns = namespace(a=1) %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}{{ ns.zz is defined }}",
            "7False",
        ),
        (
            "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set z | upper %}cap {{ a }}{% endset %}{{ z }}{% with a = 5 %}{{ a }}{% set a = 6 %}{{ a }}{% endwith %}{{ a }}",
            "12CAP 1561",
        ),
        (
            "{% macro m() %}{{ y }}{% set y = 3 %}{{ y }}{% endmacro %}{% set y = 1 %}{{ m() }}{{ y }}{% for y in [7] %}{{ m() }}{% endfor %}",
            "13113",
        ),
        (
            "{% filter upper %}abc {{ s }}{% endfilter %}{% generation %}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g is defined }}",
            "ABC HELLO, WÖRLD1False",
        ),
    ]);
}

#[test]
fn macros() {
    check(&[
        (
            "{% macro m(a, b=2, c='x') %}[{{ a }},{{ b }},{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c='y') }}{{ m(b=5, a=6) }}{{ m() }}",
            "[1,2,x][1,2,y][6,5,x][,2,x]",
        ),
        (
            "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}{{ m(*[1, 2], **{'z': 1}) }}",
            "1(2, 3){'k': 4}1(2,){'z': 1}",
        ),
        (
            "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
            "543210",
        ),
        (
            "{% macro list_of(items) %}{% for i in items %}{{ caller(i) }};{% endfor %}{% endmacro %}{% call(x) list_of(l) %}*{{ x }}{{ s }}{% endcall %}",
            "*3Hello, Wörld;*1Hello, Wörld;*2Hello, Wörld;",
        ),
    ]);
}

#[test]
fn whitespace() {
    check(&[
        (
            "x\n    {% if t %}\n  body\n    {% endif %}\ny\n  {# comment #}\nz {# c #} w\n{%+ if t +%}\n q {% endif %}\n\n",
            "x\n  body\ny\nz  w\n\n q ",
        ),
        (
            "  {{ s }}  \n  {%- for x in l %}\n   {{ x }}\n  {%- endfor %}\n",
            "  Hello, Wörld   3   1   2",
        ),
        ("a\r\n{% if t %}\r\nb{% endif %}\r\n", "a\nb"),
        (
            "{%- set x = 1 -%}\n\n{{ x }}\n{%- macro m() -%}\n  in\n{%- endmacro -%}\n{{ m() }}\n",
            "1in",
        ),
        (
            "  {% raw %}\n {{ x }}\n  {% endraw %}\nend",
            "\n {{ x }}\nend",
        ),
        (
            "{{ 'line\\\ncont' }}{{ '\\d\\x41\\u00e9\\101' }}{{ 'a' \"b\" }}",
            "linecont\\dAéAab",
        ),
    ]);
}

#[test]
fn the_helpers_of_chat_templates() {
    check(&[
        ("{{ strftime_now('%d %b %Y') }}", "01 Aug 2024"),
        (
            "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now is defined }}",
            "2024-08-01 True",
        ),
    ]);
    let refused = render("line\n{{ raise_exception('No ' ~ i) }}").expect_err("it raises");
    assert_eq!(
        (refused.line, refused.fault),
        (2, Fault::Raised("No 7".to_owned()))
    );
}

/// Where this interpreter takes what jinja2 in the sandbox of `transformers` refuses.
#[test]
fn deliberate_differences() {
    check(&[
        ("{% for x in none %}x{% endfor %}", ""),
        (
            "{{ l|map('string') }} {{ l|reverse }} {{ not not t }}",
            "['3', '1', '2'] [2, 1, 3] True",
        ),
        (
            "{% set ns = namespace(q=[]) %}{% for x in l %}{% set _ = ns.q.append(x) %}{% endfor %}{{ ns.q }}",
            "[3, 1, 2]",
        ),
        (
            "{% set q = [1, 2, 3] %}{% if t %}{{ q.pop(0) }}{{ q.pop() }}{% endif %}{{ q }}",
            "13[2]",
        ),
        (
            "{% set q = [] %}{% for x in l %}{% set _ = q.append(x) %}{% endfor %}{{ q }}{{ l }}",
            "[3, 1, 2][3, 1, 2]",
        ),
    ]);
}

#[test]
fn faults_say_what_is_wrong() {
    check_fault(&[
        ("{{ undef.x }}", "`undef` is undefined"),
        ("{{ d.zz.y }}", "`zz` is undefined"),
        ("{{ undef + 1 }}", "`undef` is undefined"),
        ("{{ n + 'x' }}", "`+` does not work on None and str"),
        ("{{ 'x' in n }}", "`in` does not work on str and None"),
        ("{{ undef() }}", "`undef` is undefined"),
        ("{{ n|length }}", "has no len()"),
        ("{{ 1 // 0 }}", "division by zero"),
        ("{{ 2 ** 200 }}", "127 bits"),
        ("{{ l|nope }}", "unknown filter `nope`"),
        ("{{ l is nope }}", "unknown test `nope`"),
        ("{{ d.update({}) }}", "would change a dict"),
        ("{{ s.__class__.__mro__ }}", "`__class__` is undefined"),
        ("{{ undef|tojson }}", "`undef` is undefined"),
        ("{{ ['b', 1]|sort }}", "does not work on"),
        (
            "{% set a, b = [1] %}",
            "1 values cannot be assigned to 2 names",
        ),
        ("{% set s.x = 1 %}", "`s` is no namespace"),
        (
            "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
            "at most 1 arguments",
        ),
        (
            "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
            "no argument `b`",
        ),
        ("{{ l|join(1, 2, 3) }}", "at most 2 arguments"),
        ("{% include 'x' %}", "`include` is not supported"),
        ("{% nope %}", "unknown tag `nope`"),
        ("{% if t %}", "`{% endif %}` is missing"),
        ("{% break %}", "outside of a loop"),
        ("{{ 1 2 }}", "expected `}}`, found a number"),
        ("{{ }}", "expected an expression"),
    ]);
    assert_eq!(
        render("a\n{% if t %}\n{{ undef.x }}{% endif %}")
            .expect_err("fails")
            .line,
        3
    );
}
