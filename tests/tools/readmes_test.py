"""The READMEs: what they point at is there, and tests/README.md has every row that the code names."""

import pathlib
import re
import unittest

import toolbox

FOLDERS = ("envoy", "filter", "sidecar", "tests")
READMES = ("README.md", *(f"{folder}/README.md" for folder in FOLDERS))
KINDS = ("LB", "GT", "RT", "RL", "ST", "HC", "RG", "AD", "RM", "NX")
ROW = re.compile(rf"\b((?:{'|'.join(KINDS)})-\d+)\b")


def text(name: str | pathlib.Path) -> str:
    """A file of the project."""
    return (toolbox.PROJECT / name).read_text(encoding="utf-8")


def anchors(readme: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", text(readme), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def of_name(name: str) -> set[str]:
    """The rows of a test's name: `gt_5_7_and_rt_1_of_3` is about GT-5, GT-7 and RT-1."""
    rows, kind = set(), None
    for word in name.split("_"):
        if word.upper() in KINDS:
            kind = word.upper()
        elif kind and word.isdigit():
            rows.add(f"{kind}-{word}")
        elif word != "and":
            kind = None
    return rows


def named() -> dict[str, str]:
    """Every row that a Rust file names, and one such file."""
    rows = {}
    for folder in FOLDERS:
        for path in (toolbox.PROJECT / folder).rglob("*.rs"):
            code = text(path)
            found = set(ROW.findall(code)).union(*map(of_name, re.findall(r"\bfn (\w+)", code)))
            rows |= dict.fromkeys(found, str(path.relative_to(toolbox.PROJECT)))
    return rows


class LinksTest(unittest.TestCase):
    def test_every_link_leads_somewhere(self):
        for readme in READMES:
            folder = (toolbox.PROJECT / readme).parent
            for target in re.findall(r"\]\(([^)]+)\)", text(readme)):
                if target.startswith("https://"):
                    continue
                file, _, anchor = target.partition("#")
                path = (folder / file).resolve() if file else toolbox.PROJECT / readme
                self.assertTrue(path.exists(), f"{readme}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(path.relative_to(toolbox.PROJECT)), readme)

    def test_every_source_that_is_named_is_there(self):
        for folder in FOLDERS:
            for path in re.findall(r"`(src/[\w/]+\.rs)`", text(f"{folder}/README.md")):
                self.assertTrue((toolbox.PROJECT / folder / path).exists(), f"{folder}: {path}")

    def test_the_filter_to_copy_is_that_of_the_bootstrap(self):
        block = text("README.md").split("```yaml\n# in http_filters", 1)[1].split("```", 1)[0]
        shown = [line.strip() for line in block.splitlines()[1:] if not line.startswith("#")]
        shipped = map(str.strip, text("envoy/static.yaml").splitlines())
        self.assertEqual([line for line in shown if line not in shipped], [], "in this order")

    def test_the_first_one_is_short(self):
        self.assertLessEqual(len(text("README.md").splitlines()), 200)


class RowsTest(unittest.TestCase):
    def test_a_name_tells_its_rows(self):
        self.assertEqual(of_name("gt_5_7_and_rt_1_of_3"), {"GT-5", "GT-7", "RT-1"})
        self.assertEqual(of_name("out_at_90_s_st_1"), {"ST-1"})

    def test_the_table_has_what_is_named_and_nothing_else(self):
        lines = re.findall(r"^\| ([A-Z]{2}-\d+) \| (.+) \|$", text("tests/README.md"), re.MULTILINE)
        table, rows = dict(lines), named()
        self.assertEqual(len(table), len(lines), "a row stands twice")
        self.assertEqual({row: rows[row] for row in rows.keys() - table.keys()}, {}, "not in the table")
        self.assertEqual(table.keys() - rows.keys(), set(), "in the table, and nothing names it")


if __name__ == "__main__":
    unittest.main()
