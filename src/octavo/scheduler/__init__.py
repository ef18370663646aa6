"""Who runs in a step, and how many tokens each. Imports cache and core; no torch."""

from octavo.scheduler.limits import SchedulerLimits
from octavo.scheduler.scheduler import Scheduler

__all__ = ["Scheduler", "SchedulerLimits"]
