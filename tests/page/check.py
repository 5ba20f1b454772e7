#!/usr/bin/env python3
"""Checks the page in a real browser, against a stage that plays made-up states: see README.md.

usage: check.py [NAME ...]     only the checks with these words in their names
       check.py --server URL   instead, a conversation with a `troika serve` that runs there ($TROIKA_KEY, if it wants one)
"""

import os
import sys

from playwright.sync_api import sync_playwright

import chat  # noqa: F401
import machine  # noqa: F401
import speed  # noqa: F401
import live
from harness import CHECKS, OUT, launch, run


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    words = sys.argv[1:]
    failed = 0
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if words[:1] == ["--server"]:
            live.talk(browser, words[1], os.environ.get("TROIKA_KEY"))
            words, chosen = [], []
        else:
            chosen = [it for it in CHECKS if not words or any(word in it[0].__name__ for word in words)]
        for function, name, ready in chosen:
            error, told = run(browser, function, name, ready)
            failed += error is not None
            print("FAILED" if error else "ok    ", function.__name__, error or told or "", flush=True)
        browser.close()
    sys.exit(1 if failed else 0)


main()
