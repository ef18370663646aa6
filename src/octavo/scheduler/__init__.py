"""Who runs in a step, and how many tokens each. Imports cache and core; no torch."""

from octavo.scheduler.scheduler import Scheduler, SchedulerLimits

__all__ = ["Scheduler", "SchedulerLimits"]
