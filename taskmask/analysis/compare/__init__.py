"""`taskmask compare`: from an experiment file to its report.

The way: experiment_file, planner, stage, predictions, gathering, results, verdicts, tables, export and render_html.
"""
