#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is a file what JUnit's readers accept? junit.py FILE...

JUnit has no schema of its own; two that others wrote are what is checked here, as tables: Maven Surefire's
(surefire-test-report.xsd), which is stricter in attributes and knows no <testsuites>, and Jenkins' xUnit plug-in's
(junit-10.xsd). Numbers in a suite's attributes must agree with what is in it."""
import re
import sys
import xml.etree.ElementTree as tree

TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")
# element: children in their order, attributes that must be there, attributes that may
SUREFIRE = {
    "testsuite": (("properties", "testcase"), {"name", "tests", "errors", "skipped", "failures"}, {"time", "group"}),
    "testcase": (("failure", "skipped", "error", "system-out", "system-err"), {"name", "time"}, {"classname", "group"}),
    "failure": ((), {"type"}, {"message"}),
}
JENKINS = {
    "testsuites": (("testsuite",), set(), {"name", "time", "tests", "failures", "disabled", "errors"}),
    "testsuite": (("properties", "testcase", "system-out", "system-err"), {"name", "tests"},
                  {"failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package", "group"}),
    "testcase": (("skipped", "error", "failure", "system-out", "system-err"), {"name"},
                 {"classname", "time", "status", "group", "assertions"}),
    "failure": ((), set(), {"message", "type"}),
}


def check(e, schema):
    assert e.tag in schema, f"<{e.tag}> is not known"
    children, must, may = schema[e.tag]
    assert must <= set(e.attrib) <= must | may, f"<{e.tag}> has {sorted(e.attrib)}"
    order = [children.index(c.tag) for c in e if c.tag in children or not print(f"<{c.tag}> in <{e.tag}>")]
    assert order == sorted(order), f"<{e.tag}>: children out of order"
    assert not (e.text or "").strip(), f"<{e.tag}> has a text"
    if "time" in e.attrib:
        assert TIME.fullmatch(e.get("time")), e.get("time")
    for c in e:
        check(c, schema)


def count(suite):
    cases = suite.findall("testcase")
    failed = [c for c in cases if c.find("failure") is not None]
    assert int(suite.get("tests")) == len(cases) > 0, "tests"
    assert int(suite.get("failures")) == len(failed), "failures"
    assert suite.get("errors") == suite.get("skipped") == "0"
    names = [(c.get("classname"), c.get("name")) for c in cases]
    assert len(set(names)) == len(names), "two cases of one name"


for path in sys.argv[1:]:
    root = tree.parse(path).getroot()
    check(root, JENKINS)
    assert root.tag == "testsuites" and len(root), path
    for suite in root:
        check(suite, SUREFIRE)
        count(suite)
