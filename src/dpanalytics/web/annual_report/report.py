"""The annual report as a document that a committee reads (policy 5.2)."""

from dpanalytics.openness.annual import Annual
from dpanalytics.web.annual_report.document import Document, Section
from dpanalytics.web.annual_report.method import method
from dpanalytics.web.annual_report.students import consent, effect
from dpanalytics.web.annual_report.use import brief, budgets, requests, reviews, statistics, support
from dpanalytics.web.format import day


def document_of(report: Annual) -> Document:
    """The report as a document."""
    sections = (
        Section("brief", "The year in brief", tuple(brief(report))),
        Section("statistics", "What committees asked", tuple(statistics(report))),
        Section("budgets", "What was spent of the privacy budget", tuple(budgets(report))),
        Section("support", "Support in which staff see names", tuple(support(report))),
        Section("requests", "Requests of students", tuple(requests(report))),
        Section("consent", "Who agreed", tuple(consent(report))),
        Section("effect", "What came of support", tuple(effect(report))),
        Section("reviews", "Approvals and their last days", tuple(reviews(report))),
        Section("method", "Appendix: how these figures were made", tuple(method(report))),
    )
    edition = "" if report.edition == 1 else f", edition {report.edition}"
    return Document(
        institution=report.institution,
        title=f"Learner analytics: annual report {report.academic_year}",
        subtitle=f"Academic year {report.academic_year}{edition}. "
        f"Acts from {day(report.period.first)} to {day(report.period.last)}. "
        f"Written on {day(report.written_on)}.",
        lead="How learner analytics were used in the year, and what came of it (section 5.2 of "
        "the policy). The report is made from the rules that the software obeys and from its "
        "journal; nobody writes it by hand.",
        dated=report.written_on,
        sections=sections,
    )
