"""What people look at: charts, and later the pages. Calls use cases, never our own HTTP.

- `chart.py`: an answer as a bar or line chart with error bars, as SVG
- `register.py`: the openness register as a page
- `own.py`: all that is held on a student as a page, for that student
- `annual_report/`: the annual report as a page and as a PDF
- `format.py`: how figures, days and lists read on pages
- `templates/`: pages with loops and conditions, and their style; no script
"""
