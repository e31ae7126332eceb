"""What must hold of a description before it enters a vector or reaches a person. Pure: texts in, verdicts out."""

from coldstart.checks.check import check
from coldstart.checks.contract import TEXTS, Checked, Cut, Ground, Policy, Rules, Sources

__all__ = ["TEXTS", "Checked", "Cut", "Ground", "Policy", "Rules", "Sources", "check"]
