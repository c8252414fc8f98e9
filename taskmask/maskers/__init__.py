"""The maskers that come with taskmask: one file a policy, each choosing positions and nothing else."""

from taskmask.registry import import_modules

import_modules(__name__)
