"""The web applications, put together: routes, use cases, guards, log and metrics.

| file | what is put together there |
|---|---|
| process.py | what the services share: guards, log, metrics, workers, how a process ends |
| macro.py | the macro service: questions under a budget; reaches no vault |
| micro.py | the micro service: interventions; answers no macro question |

Importing this package imports none of its files, and importing those does nothing.
"""
