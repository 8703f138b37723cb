# SPDX-License-Identifier: Apache-2.0
"""Facts: what a node is, gathered by looking only, frozen and JSON-able.

A bug report is a `facts.json`, and a test is `checks(load("facts.json"))`. What cannot be read is a fact too: `None` or
empty, with the reason in `unknowns`; never a crash and never a guess.
"""
