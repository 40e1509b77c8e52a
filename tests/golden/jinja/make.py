# SPDX-License-Identifier: MIT
"""Writes cases.json: templates, their variables, and the text that Transformers makes of them.

    python make.py > cases.json

The templates are compiled as apply_chat_template does it; strftime_now tells the date that
infer/jinja.h has. A case that Jinja refuses has "error": true."""
import datetime
import json
import sys

import transformers.utils.chat_template_utils as chat_template_utils


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = FixedDate

DATA = {
    "n": 7, "neg": -7, "zero": 0, "f": 2.5, "big": 1e16, "tiny": 1.5e-7, "whole": 3.0,
    "yes": True, "no": False, "nothing": None, "empty": "", "text": "  Hello, World! \n",
    "quote": "it's \"so\"\t\\ \u00e9\u4e2d\U0001F600\u200b\x07", "html": "<a href='x'>&\"</a>",
    "list": [3, 1, 2], "words": ["b", "A", "c", "a"], "none_list": [], "nested": [[1, [2]], {"k": ["v", None, 1.0]}],
    "table": {"b": 1, "a": 2, "C": 3}, "deep": {"x": {"y": [10, 20, {"z": "end"}]}},
    "people": [{"name": "Bo", "age": 5, "t": {"u": 1}}, {"name": "al", "age": 3, "t": {"u": 0}}, {"name": "Cy", "age": 5}],
    "keys": {"items": "shadow", "get": 1, "content": "mine"},
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n"},
                 {"role": "assistant", "content": " Yes? "}, {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "image"}]}],
}

# Expressions, each printed between brackets.
EXPRESSIONS = r"""
n + 1
n - 10 * 2
n / 2
n // 2
neg // 2
neg % 3
n % -3
neg % -3
7.5 % -2
-10 % 2.5
-7.5 // 2
2 ** 10
2 ** -1
-2 ** 2
-n | abs
+f
1e3
1_000
1.0
big
tiny
whole
0.1 + 0.2
1e15
123456789.123
1e22
5e-324
1.7976931348623157e308
-0.0
100000000000000000.0
yes
nothing
True and none
yes + 1
[1, 'a', none, true, 2.0]
(1,)
()
(1, 2)
{'a': 1, "b": [1, {}], 3: 'x', none: 0}
{'a': 1, 'a': 2}
quote
[quote]
["'"]
['"']
['\'"']
"a" "b" 'c'
'tab\there\nnew \x41 \u00e9 \U0001F600 \101 \\ \' \q'
text
text | trim
text | upper
text | lower
text.strip()
text.lstrip()
text.rstrip() ~ '|'
'xxabcxx'.strip('x')
'xyabcyx'.lstrip('xy')
'xyabcyx'.rstrip('xy')
'ééabé'.strip('é')
text | length
quote | length
'éa' | length
list | length
table | length
missing | length
text[2]
text[-2]
text[100]
text[2:7]
text[::-1]
quote[-4:]
quote[::2]
'abcdef'[1:-1]
'abcdef'[-3:]
'abcdef'[:2]
'abcdef'[4:1:-1]
'abcdef'[10:]
'abcdef'[-100:2]
list[0]
list[-1]
list[5]
list[1:]
list[:-1]
list[::-1]
list[::2]
list[5:1]
(1, 2, 3)[1:]
range(10)[2:5] | list
list[yes]
missing
missing is defined
missing.x is defined
table.missing
table.missing is undefined
table['a']
table.a
table["C"]
table.get('a')
table.get('q')
table.get('q', 'd')
table.keys() | list
table.values() | list
table.items() | list
table.keys()
table.values()
table.items()
table | items | list
table | list
table | dictsort
table | dictsort(true)
table | dictsort(by='value')
table | dictsort(reverse=true)
table | dictsort(false, 'value', true)
keys.content
keys['items']
keys.items() | list
keys['content']
deep.x.y[2].z
deep['x']['y'][0]
deep.x.y.1
deep.q is defined
nested
nested[1].k
none_list
'%s' ~ n ~ none ~ yes ~ f ~ missing ~ list
n == 7
n == 7.0
n == '7'
yes == 1
'a' == 'a'
[1, 2] == [1, 2]
[1, 2] == (1, 2)
table == {'a': 2, 'b': 1, 'C': 3}
none == nothing
missing == nothing
missing == missing2
n != 7
1 < n <= 7
1 < n < 3
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
n > 3 and n < 10
n > 10 or 'else'
'' or none or 0
'x' and 'y'
not n
not missing
not (n and no)
not n == 7
'ell' in text
'' in text
'z' not in text
1 in list
9 in list
'a' in table
'a' not in table
1 in table
1 in (1, 2)
n in range(8)
'x' in missing
'a' if yes else 'b'
'a' if no else 'b'
'a' if no
('a' if no) is defined
'a' if no else 'b' if no else 'c'
words | join
words | join(', ')
words | join(d='-')
list | join('+')
people | join(', ', attribute='name')
words | sort
words | sort(true)
words | sort(case_sensitive=true)
people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='name') | map(attribute='age') | list
words | unique | list
[1, 1.0, true, 2] | unique | list
words | map('upper') | list
words | map('replace', 'a', 'z') | join
people | map(attribute='name') | join('/')
people | map(attribute='t.u', default='none') | join('/')
people | map(attribute='nope') | list | length
[[1, 2], [3, 4]] | map('first') | list
[[1, 2], [3, 4]] | map(attribute=1) | list
people | selectattr('age', 'equalto', 5) | map(attribute='name') | list
people | selectattr('t') | list | length
people | selectattr('t', 'defined') | list | length
people | rejectattr('age', '==', 5) | list
people | rejectattr('age', 'gt', 4) | map(attribute='name') | first
words | select('equalto', 'a') | list
words | reject('in', ['a', 'b']) | list
[0, 1, '', 'x', none] | select | list
[0, 1, '', 'x', none] | reject | list
nothing | map('upper') | list
nothing | selectattr('x', 'equalto', 1) | list
nothing | rejectattr('x') | list
(words | map('upper')) is iterable
(none_list | map('upper')) and 'true'
list | first
list | last
none_list | first
'abc' | first
'abc' | last
table | first
list | reverse | list
'abc' | reverse
list | max
list | min
words | max
people | max(attribute='age')
list | sum
people | sum(attribute='age')
people | sum('age', 100)
'abc' | list
missing | list
missing | default('d')
missing | d('d')
nothing | default('d')
nothing | default('d', true)
empty | default('d', boolean=true)
missing.x | default('d')
n | default(1)
n | string
list | string
f | int
'42' | int
' 42 ' | int
'4.7' | int
'x' | int
'x' | int(5)
'x' | int(default=6)
nothing | int
yes | int
'1.5' | float
'x' | float
n | float
2.5 | round
3.5 | round
2.675 | round(2)
2.1 | round(method='ceil')
2.15 | round(1, 'floor')
7 | round
neg | abs
'hello wORLD foo-bar (baz) x_y' | title
'hello wORLD it\'s 2nd'.title()
'hello WORLD' | capitalize
'éCOLE' | capitalize
'straße' | upper
'ÀÉ' | lower
'Hello World'.swapcase()
'a-b-c' | replace('-', '+')
'a-b-c' | replace('-', '+', 1)
'aaa'.replace('a', 'b', 2)
'abc'.replace('', '.')
'abc'.replace('b', '')
n | replace(7, 8)
'a,b,c'.split(',')
'a,b,c'.split(',', 1)
'  a  b c '.split()
'  a  b c '.split(none, 1)
'a,b,c'.rsplit(',', 1)
'a</t>b</t>c'.split('</t>')[-1]
'a</t>b</t>c'.split('</t>')[0].rstrip('\n').split('<')[-1].lstrip('\n')
''.split(',')
''.split()
'a\nb\r\nc\n'.splitlines()
'a\nb'.splitlines(true)
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.endswith('bc')
'abc'.endswith('')
'abcabc'.find('c')
'éabc'.find('b')
'abcabc'.rfind('c')
'abc'.find('z')
'abcabc'.index('b')
'abcabc'.count('b')
'aaa'.count('aa')
'abc'.count('')
'abc'.removeprefix('a')
'abc'.removesuffix('bc')
'ABC'.isupper()
'aBC'.islower()
' \n'.isspace()
'-'.join(words)
'-'.join(table)
'{} and {}'.format(n, 'x')
'{0}{1}{0} {{}} {name}'.format(1, 2, name='q')
list.index(1)
list.count(3)
(1, 2, 1).count(1)
text is string
n is string
n is number
yes is number
yes is integer
n is integer
f is float
yes is boolean
yes is true
no is false
n is true
nothing is none
missing is none
table is mapping
list is mapping
list is iterable
table is iterable
text is iterable
n is iterable
missing is iterable
list is sequence
table is sequence
text is sequence
table.items() is sequence
n is sequence
n is odd
3.0 is odd
0.5 is even
-7.5 is divisibleby -2.5
neg is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is not divisibleby 2
n is equalto 7
n is eq 7
n is ne 7
n is gt 3
n is lt 3
n is ge 7
n is le 6
n is in [1, 7]
n is sequence or n is number
'a' is lower
'A' is upper
range is callable
'upper' is filter
'nope' is filter
'odd' is test
text is not none and text is not mapping
range(3) | list
range(1, 4) | list
range(5, 0, -2) | list
range(0) | list
range(3) | length
dict(a=1, b='x')
dict({'a': 1}, b=2)
namespace(a=1).a
namespace(a=1)['a']
namespace(a=1).b is defined
strftime_now('%d %b %Y')
strftime_now("%Y-%m-%d")
strftime_now("%A, %B %d, %Y")
table | tojson
nested | tojson
quote | tojson
html | tojson
quote | tojson(true)
quote | tojson(ensure_ascii=False)
nested | tojson(indent=2)
nested | tojson(indent=0)
deep | tojson(indent=4)
table | tojson(separators=(',', ':'))
table | tojson(sort_keys=true)
table | tojson(indent='--')
{} | tojson(indent=2)
[[], {}, ''] | tojson(indent=2)
{1: 1, none: 2, true: 3, 1.5: 4} | tojson
(1, (2,)) | tojson
big | tojson
f | tojson
whole | tojson
yes | tojson
nothing | tojson
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2)
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, blank=true)
'a\nb\n' | indent(width='>')
'' | indent(2, true)
'one two, three' | wordcount
html | e
html | safe
(html | safe) + '<'
'<' + (html | safe)
(html | safe) ~ '<'
(html | safe | trim) + '&'
(html | safe)[0:2] + '<'
html | string
list + [4]
(1,) + (2,)
list * 2
'ab' * 3
3 * 'ab'
'ab' * 0
'a' + 'b' + 'c'
1 + 2 ~ 3
'a' ~ 1 + 2
n is defined and n > 3
(n, f)
n, f
loop is defined
messages[0]['role'] == 'system'
messages[0].content
messages[1:] | length
messages | selectattr('role', 'equalto', 'user') | list | length
messages | map(attribute='role') | join(',')
(messages | last).content | map(attribute='type') | list
messages[-1].content[0].text
messages[-1]['content'] is not string
"{{ 'x' }}"
'}}'
{'a': {'b': {}}}
"a" if "b" in "abc" and not "d" in "abc" else "c"
[1, 2, 3,]
{'a': 1,}
none
None
True
false
"é".upper()
n.x
n.x is defined
text.nope is defined
list.nope
list['nope']
nothing.x
nothing.x is defined
missing ~ 'x'
missing == ''
[missing] | length
[missing]
text.strip().split(' ')[0] | lower | trim | capitalize
((((1))))
- 3 + - - 2
""".strip("\n").split("\n")

# What Jinja refuses.
REFUSED = r"""
missing.x.y
missing['a']
missing()
missing + 1
missing < 1
n()
'a' + 1
1 + none
none < 1
'a' < 1
[] < {}
1 in 'abc'
1 in n
1 / 0
1 % 0
1 // 0
n | length
n | list
none | list
none | items | list
list | items | list
n.x.y
nothing.x.y
list.append(1)
table.pop('a')
table.update({})
raise_exception('no')
missing | tojson
namespace() | tojson
range(3) | tojson
(list | map('upper')) | length
table | dictsort(by='x')
'abc'.index('z')
list.index(99)
'a'.split('')
''.join([1])
''.join(none)
{[1]: 2}
[1, 2][1:2:0]
range(0, 10, 0)
range(1000000)
words | map | list
words | map('nope') | list
n | nope
n is nope
words | select('nope') | list
text.startswith(1)
(1, 2) + [3]
'a' * 'b'
-'a'
-none
table | join(1, 2, 3)
words | join(x=1)
missing | first | upper ~ none.x.y
namespace(1)
1 2
n |
(1
[1
{'a' 1}
{'a':}
'open
a.b.
not
in list
n is odd is true
n is odd in list
n is odd if yes else n
n is divisibleby 0
text is odd
nothing[1:]
n[1:]
table[:2]
x is
@
a ? b
a = b
""".strip("\n").split("\n")

# Whole templates: statements, white space, scopes.
TEMPLATES = {
    "trim_blocks": "a\n{% if yes %}\n  b\n{% endif %}\nc\n",
    "lstrip_blocks": "a\n   {% if yes %}\n  b\n   {% endif %}  \nc",
    "lstrip_after_output": "{{ n }}  {% if yes %}x{% endif %}\n  {{ n }}  \n  {# c #}\nend",
    "plus": "  {%+ if yes %}\n x\n{% endif +%}\ny",
    "minus": "a  \n\n {%- if yes -%} \n\n b \n {%- endif -%} \n c",
    "minus_output": "a \n {{- n -}} \n b {{ n -}}\n\n c {{- n }} d",
    "minus_unicode_space": "a\u00a0\u2003{{- n -}}\u3000\u200ab",
    "comment": "a {# x {{ y }} {% z %} #} b\n{#- c -#}\n d\n  {# e #}\n f {##} g {#-#} h",
    "comment_then_block": "{# c #}\n{% if yes %}\nx\n{% endif %}\n",
    "raw": "a\n {% raw %}\n {{ x }} {% if %}\n {% endraw %}\n b",
    "raw_minus": "a {%- raw -%} \n {{ x }} \n {%- endraw -%} \n b",
    "newline_end": "x\n",
    "newline_end_2": "x\n\n",
    "newline_tag_end": "{% if yes %}x{% endif %}\n",
    "crlf": "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\nc\rd\r\n",
    "text_only": "just { text } % } # with {single} braces",
    "empty": "",
    "tags_in_strings": "{{ '%}' ~ \"}}\" ~ '{#' }}{% set x = '{{' %}{{ x }}",
    "multi_line_tag": "{%\n  set x = [\n    1,\n    2\n  ]\n%}\n{{ x\n}}",
    "for": "{% for x in list %}{{ x }},{% endfor %}",
    "for_else": "{% for x in none_list %}{{ x }}{% else %}none{% endfor %}{% for x in list %}{% else %}n{% endfor %}",
    "for_loop": "{% for x in words %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "for_neighbours": "{% for x in words %}[{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}]{{ loop.previtem is defined }}{{ loop.nextitem is undefined }}{% endfor %}",
    "for_cycle": "{% for x in words %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(x|lower) }}{% endfor %}",
    "for_if": "{% for x in list if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}none{% endfor %}{% for x in list if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "for_unpack": "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in table|items %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "for_nested": "{% for a in list %}{% for b in words %}{{ loop.index }}{{ loop.last }}{% endfor %}{{ loop.index }};{% endfor %}",
    "for_outer_loop": "{% for a in list %}{% set outer = loop %}{% for b in words %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "for_string": "{% for c in 'h\u00e9y' %}<{{ c }}>{% endfor %}",
    "for_dict": "{% for k in table %}{{ k }}{% endfor %}{% for m in missing %}x{% endfor %}",
    "for_tuple": "{% for x in 1, 'a', none %}{{ x }};{% endfor %}",
    "for_choice": "{% for x in (list if yes else words) %}{{ x }}{% endfor %}",
    "for_break": "{% for x in range(10) %}{% if x == 3 %}{% break %}{% endif %}{% if x is odd %}{% continue %}{% endif %}{{ x }}{% endfor %}!",
    "for_break_inner": "{% for x in list %}{% for y in list %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}.{% endfor %}",
    "for_iterator_once": "{% set it = words|map('upper') %}{% for x in it %}{{ x }}{% endfor %}|{% for x in it %}{{ x }}{% endfor %}",
    "for_first_then_rest": "{% set it = words|map('upper') %}{{ it|first }}{{ it|list }}{{ it|list }}",
    "scope_for": "{% set x = 1 %}{% for i in list %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "scope_if": "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}{% if no %}{% set y = 1 %}{% endif %}{{ y is defined }}",
    "scope_target": "{% set i = 'o' %}{% for i in list %}{{ i }}{% endfor %}{{ i }}",
    "scope_loop_gone": "{% for i in list %}{% endfor %}{{ loop is defined }}{{ i is defined }}",
    "scope_variable_shadowed": "{{ n }}{% set n = n + 1 %}{{ n }}{% for x in list %}{% set n = n + x %}{{ n }},{% endfor %}{{ n }}",
    "namespace": "{% set ns = namespace(found=false, count=0) %}{% for x in list %}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% set ns.count = ns.count + x %}{% set ns.new = x %}{% endfor %}{{ ns.found }}{{ ns.count }}{{ ns.new }}{{ ns }}",
    "namespace_text": "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = ns.text ~ m.role[0] %}{% endfor %}{{ ns.text }}",
    "set_tuple": "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (d, e) = 'xy' %}{{ d }}{{ e }}",
    "set_block": "{% set x %}\n  a {{ n }}\n{% endset %}[{{ x }}]{{ x|length }}",
    "set_block_filter": "{% set x | trim | upper %}\n  a {{ n }}\n{% endset %}[{{ x }}]",
    "set_block_scope": "{% set y = 1 %}{% set x %}{% set y = 2 %}{{ y }}{% endset %}{{ x }}{{ y }}",
    "set_block_namespace": "{% set ns = namespace() %}{% set ns.x %}hi{% endset %}{{ ns.x }}",
    "filter_block": "{% filter upper %}a{{ n }}b{% endfilter %}{% filter trim | replace('x', 'y') %}  x  {% endfilter %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ loop.index }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}{% endif %}{% endfor %}",
    "if_chain": "{% if no %}a{% elif nothing %}b{% elif n == 7 %}c{% else %}d{% endif %}{% if no %}{% else %}e{% endif %}",
    "if_tuple": "{% if no, no %}yes{% endif %}",
    "macro": "{% macro hi(a, b='B', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ hi(1) }}{{ hi(1, 2) }}{{ hi(1, c=3) }}{{ hi(b=1, a=2) }}{{ hi() }}",
    "macro_default_of_argument": "{% macro f(a, b=a ~ '!') %}{{ a }}{{ b }}{% endmacro %}{{ f('x') }}",
    "macro_recursive": "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}",
    "macro_scope": "{% set g = 'g' %}{% macro f(x) %}{{ g }}{{ x }}{{ n }}{{ l is defined }}{{ loop is defined }}{% set g = 'in' %}{{ g }}{% endmacro %}{% for l in list %}{{ f(l) }}{% endfor %}{{ g }}",
    "macro_late": "{% macro f() %}{{ late }}{% endmacro %}{% set late = 'now' %}{{ f() }}",
    "macro_in_loop": "{% for x in list %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}",
    "macro_as_value": "{% macro f() %} a {% endmacro %}{% set x = f() | trim %}[{{ x }}]{{ f.name }}{{ f() ~ f() }}{{ f is callable }}",
    "macro_whitespace": "{%- macro f(x) -%}\n  {{ x }}\n{%- endmacro -%}\n{{ f(1) }}\n{{- f(2) -}}\n",
    "macro_calls_macro": "{% macro a(x) %}({{ x }}){% endmacro %}{% macro b(x) %}{{ a(x ~ x) }}{% endmacro %}{{ b('z') }}",
    "undefined_prints_nothing": "[{{ missing }}{{ table.nope }}{{ list[9] }}]",
    "dotted": "{{ deep.x.y.2.z }}{{ deep .x ['y'] [ 1 ] }}",
    "operators_spacing": "{{1+2*3-4//5}}{{-1}}{{- 1 -}}{{ 1 }}{{'a'~'b'}}{{[1,2][0]}}",
    "brace_end": "{{ {'a': {'b': 1}} }}{{ {'a': 1}['a'] }}{{{'a': 1}}}",
    "unicode_name": "{% set \u00e9t\u00e9 = 1 %}{{ \u00e9t\u00e9 }}",
    "html_stays": "{{ html }}{{ html ~ '<' }}{{ '<b>' }}",
    # chats of made-up models, with the constructs that published ones have
    "chat_markers": "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' }}{% if m.content is string %}{{ m['content'] | trim + eos_token + '\n' }}{% else %}{% for p in m.content %}{% if p.type == 'text' %}{{ p['text'] }}{% else %}{{ '[' ~ p.type ~ ']' }}{% endif %}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "chat_system_first": "{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] %}\n    {%- set rest = messages[1:] %}\n{%- else %}\n    {%- set rest = messages %}\n{%- endif %}\n{%- for m in rest %}\n    {%- if loop.index0 == 0 and system is defined %}\n        {{- '<<' + system + '>>' }}\n    {%- endif %}\n    {{- '[' + m.role + '] ' }}\n    {%- if m.content is string %}\n        {{- m.content }}\n    {%- else %}\n        {{- m.content | map(attribute='type') | join('+') }}\n    {%- endif %}\n{%- endfor %}",
    "chat_last_query": "{%- set ns = namespace(last=messages|length - 1, seen=false) %}\n{%- for m in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n    {%- if not ns.seen and m.role == 'user' and m.content is string and not (m.content.startswith('<t>') and m.content.endswith('</t>')) %}\n        {%- set ns.seen = true %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n{{- ns.last }}",
    "chat_think": "{%- set content = '<think>\nhm\n</think>\n\nyes' %}{%- if '</think>' in content %}{%- set reason = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}[{{ reason }}|{{ content }}]",
    "chat_alternate": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
    "chat_date": "{%- if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}{% else %}{% set date = 'x' %}{% endif %}{%- if not date_string is defined %}{% set date_string = date %}{% endif %}{{ date_string }}",
    "chat_tools": "{%- macro type_of(p) -%}\n  {%- if p.type == 'array' -%}\n    {{- type_of(p['items']) ~ '[]' -}}\n  {%- elif p.type is string -%}\n    {{- p.type -}}\n  {%- else -%}\n    {{- p.type | join(' | ') -}}\n  {%- endif -%}\n{%- endmacro -%}\n{%- for t in tools %}\n{{ t.function.name }}(\n{%- for k, v in t.function.parameters.properties | dictsort %}\n  {{- k }}{{ '?' if k not in t.function.parameters.required }}: {{ type_of(v) }}{{ ', ' if not loop.last }}\n{%- endfor %})\n{%- endfor %}\n{{ tools | tojson(indent=2) }}",
    # refused
    "bad_break": "{% break %}",
    "bad_else": "{% else %}",
    "bad_end": "{% if yes %}",
    "bad_endfor": "{% for x in list %}",
    "bad_mix": "{% if yes %}{% for x in list %}{% endif %}{% endfor %}",
    "bad_tag": "{% nonsense %}",
    "bad_output": "{{ }}",
    "bad_comment": "a {# b",
    "bad_raw": "{% raw %} x",
    "bad_set": "{% set x.y = 1 %}",
    "bad_set_attribute": "{% set table.y = 1 %}",
    "bad_set_constant": "{% set true = 1 %}",
    "bad_unpack": "{% for a, b in list %}{% endfor %}",
    "bad_unpack_2": "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "bad_macro_argument": "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
    "bad_macro_keyword": "{% macro f(a) %}{% endmacro %}{{ f(b=2) }}",
    "bad_macro_twice": "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}",
    "bad_recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "bad_generation_break": "{% for x in list %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "bad_paren": "{{ (1 }}",
    "bad_tag_end": "{% if yes }}x{% endif %}",
}

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "required": ["q"], "properties": {
    "q": {"type": "string"}, "limit": {"type": ["integer", "null"]}, "tags": {"type": "array", "items": {"type": "string"}}}}}}]


def render(name, template, **more):
    given = {**DATA, "bos_token": "<s>", "eos_token": "</s>", **more}
    variables = {"tools": None, "documents": None, "add_generation_prompt": False, **given}
    case = {"name": name, "template": template}
    if more:
        case["vars"] = more
    try:
        rest = {k: v for k, v in variables.items() if k not in ("messages", "tools", "documents", "add_generation_prompt")}
        case["text"] = chat_template_utils.render_jinja_template(
            conversations=[variables["messages"]], tools=variables["tools"], documents=variables["documents"],
            chat_template=template, add_generation_prompt=variables["add_generation_prompt"], **rest)[0][0]
    except Exception as e:
        case["error"] = True
        print(f"{name}: {type(e).__name__}: {str(e)[:90]}", file=sys.stderr)
    return case


def main():
    cases = [render(e, "[{{ " + e + " }}]") for e in EXPRESSIONS + REFUSED]
    for name, template in TEMPLATES.items():
        cases.append(render(name, template, **({"tools": TOOLS} if "tools" in name else {})))
    cases.append(render("chat_markers_prompt", TEMPLATES["chat_markers"], add_generation_prompt=True))
    shared = {**DATA, "bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None,
              "add_generation_prompt": False}
    print(json.dumps({"vars": shared, "cases": cases}, ensure_ascii=True, indent=0))


main()
