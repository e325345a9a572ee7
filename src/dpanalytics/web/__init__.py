"""What people look at: charts, and later the pages. Calls use cases, never our own HTTP.

- `chart.py`: an answer as a bar or line chart with error bars, as SVG
- `register.py`: the openness register as a page
- `format.py`: how figures, days and lists read on pages
- `templates/`: pages with loops and conditions, and their style; no script
"""
