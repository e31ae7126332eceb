"""Helpers beside the tests (`poison`, `preparers`, …) import from every folder of tests."""
