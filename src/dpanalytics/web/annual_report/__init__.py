"""The annual report as people read it (policy 5.2): one document, as a page and as a PDF.

| file | what lives there |
|---|---|
| document.py | a document as values: prose, tables, charts |
| report.py | the report as a document, from its content |
| use.py | what was done: questions, budgets, acts, requests, approvals |
| students.py | what is told of students: who agreed, what came of support |
| method.py | the appendix: how the figures were made |
| pictures.py | charts with error bars, as SVG |
| written.py | a document as HTML and as PDF |
"""
