"""The criteria that come with taskmask, by name; their options stand here, without torch, so that `--help` is quick."""

from taskmask.registry import CRITERIA, NoOptions

CRITERIA.add("masked_lm", config=NoOptions, load="taskmask.criteria.masked_lm:MaskedLMCriterion")
