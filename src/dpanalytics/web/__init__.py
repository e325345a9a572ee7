"""What people look at: charts, and later the pages. Calls use cases, never our own HTTP.

- `chart.py`: an answer as a bar or line chart with error bars, as SVG
"""
