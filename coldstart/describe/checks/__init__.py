"""Checks of a description before it enters a vector or is shown. Pure: texts in, verdicts out."""

from coldstart.describe.checks.check import check_description
from coldstart.describe.checks.contract import TEXTS, Checked, Cut, Ground, Policy, Rules, Sources

__all__ = ["TEXTS", "Checked", "Cut", "Ground", "Policy", "Rules", "Sources", "check_description"]
