"""The tasks that come with taskmask: one file each. Importing them does not load torch."""

from taskmask.registry import import_modules

import_modules(__name__)
