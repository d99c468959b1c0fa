"""What a build's output says of how far it is."""

import unittest

from progress import Progress


class ProgressTest(unittest.TestCase):
    def test_reads_cargo_s_bar_and_keeps_the_rest_for_a_failure(self):
        progress = Progress()
        progress.read(["   Compiling serde v1.0.0\n",
                       "    Building [=====>      ] 12/345: serde, tokio(build)   \n",
                       "error: no\n", "\n"])
        self.assertEqual(progress.at, "12 of 345 crates: serde, tokio(build)")
        self.assertEqual(progress.printed, ["   Compiling serde v1.0.0", "error: no"])


if __name__ == "__main__":
    unittest.main()
